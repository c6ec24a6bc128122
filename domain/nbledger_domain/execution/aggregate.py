"""The execution aggregate: one run of a notebook, from the request to its end."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET

from nbledger_domain.errors import IllegalTransitionError
from nbledger_domain.events import register
from nbledger_domain.execution.endings import ExecutionEndings
from nbledger_domain.execution.values import (
    ArtifactKind,
    Cause,
    CellError,
    CellRange,
    CellStatus,
    EnvironmentStage,
    GivenDataset,
    KernelFacts,
    Output,
    Phase,
    PlannedCell,
    Representation,
    Resources,
    RunOptions,
)


class Execution(ExecutionEndings):
    """One run of a notebook.

    A worker claims it before it does anything, and every claim raises ``epoch`` by one; steps
    of an earlier epoch are refused (:class:`StaleEpochError`), so that of two workers which
    both believe that they hold it only the last to claim is heard.
    """

    from nbledger_domain.execution.events import (
        ArtifactStored as ArtifactStored,
        AttemptLost as AttemptLost,
        CancelRequested as CancelRequested,
        Cancelled as Cancelled,
        CellExecuted as CellExecuted,
        CellStarted as CellStarted,
        Claimed as Claimed,
        Completed as Completed,
        DatasetsGiven as DatasetsGiven,
        EnvironmentProgressed as EnvironmentProgressed,
        Event as Event,
        Failed as Failed,
        KernelDied as KernelDied,
        MetricsLogged as MetricsLogged,
        OutputTruncated as OutputTruncated,
        OutputsSaved as OutputsSaved,
        OutputsUpdated as OutputsUpdated,
        Requested as Requested,
        Started as Started,
        TimedOut as TimedOut,
        Warned as Warned,
        WidgetsStored as WidgetsStored,
    )

    @classmethod
    def request(
        cls,
        execution_id: UUID,
        *,
        notebook_id: UUID,
        notebook_version: str,
        notebook_stream_version: int,
        kernel_type: str,
        cells: Sequence[PlannedCell],
        parameters: dict[str, Any],
        options: RunOptions,
        requested_by: str,
        at: datetime,
        cell_range: CellRange | None = None,
        warnings: Sequence[str] = (),
        tags: Sequence[str] = (),
        cause: Cause | None = None,
        datasets: Sequence[GivenDataset] = (),
    ) -> "Execution":
        """A new execution, waiting for a worker.

        ``notebook_stream_version`` pins the cells that will run: the notebook as it is at
        that version of its stream, whatever is changed in it later. ``datasets`` pin versions
        likewise; the others are given as they are when the run starts.
        """
        return cls._create(
            cls.Requested,
            id=execution_id,
            timestamp=at,
            notebook_id=notebook_id,
            notebook_version=notebook_version,
            notebook_stream_version=notebook_stream_version,
            kernel_type=kernel_type,
            cell_range=cell_range,
            cells=list(cells),
            parameters=parameters,
            options=options,
            requested_by=requested_by,
            warnings=list(warnings) or UNSET,
            tags=list(tags) or UNSET,
            cause=UNSET if cause is None else cause,
            datasets=list(datasets) or UNSET,
        )

    def claim(self, worker_id: str, *, at: datetime) -> int:
        """Take a waiting execution; returns the new epoch.

        Raises :class:`ExecutionEndedError`, or :class:`IllegalTransitionError` while another
        attempt holds it.
        """
        self.must_run()
        if self.phase is not Phase.QUEUED:
            raise IllegalTransitionError(f"Execution {self.id} is held by {self.worker_id}.")
        self.trigger_event(self.Claimed, timestamp=at, epoch=self.epoch + 1, worker_id=worker_id)
        return self.epoch

    def prepare_environment(
        self,
        epoch: int,
        stage: EnvironmentStage,
        *,
        at: datetime,
        environment: str | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        """Record how far the environment is that the kernel will be started in."""
        self.must_hold(epoch)
        if self.phase not in (Phase.STARTING, Phase.PROVISIONING):
            raise IllegalTransitionError(f"Execution {self.id} has already started.")
        self.trigger_event(
            self.EnvironmentProgressed,
            timestamp=at,
            epoch=epoch,
            stage=stage,
            environment=environment,
            packages=list(packages),
        )

    def warn(self, epoch: int, warning: str, *, at: datetime) -> None:
        """Record that something is not as was asked for."""
        self.must_hold(epoch)
        self.trigger_event(self.Warned, timestamp=at, epoch=epoch, warning=warning)

    def give_datasets(self, epoch: int, datasets: Sequence[GivenDataset], *, at: datetime) -> None:
        """Record the datasets that lie in the run's folder, before its first cell."""
        self.must_hold(epoch)
        if self.has_run_cells:
            raise IllegalTransitionError(f"Cells of execution {self.id} have run.")
        self.trigger_event(self.DatasetsGiven, timestamp=at, epoch=epoch, datasets=list(datasets))

    def start(
        self,
        epoch: int,
        *,
        language: str,
        language_version: str,
        at: datetime,
        kernel: KernelFacts | None = None,
        packages: Representation | None = None,
    ) -> None:
        """Record that the kernel is up, and what it can import."""
        self.must_hold(epoch)
        if self.phase is not Phase.STARTING:
            raise IllegalTransitionError(f"Execution {self.id} has already started.")
        self.trigger_event(
            self.Started,
            timestamp=at,
            epoch=epoch,
            language=language,
            language_version=language_version,
            kernel=UNSET if kernel is None else kernel,
            packages=UNSET if packages is None else packages,
        )

    def start_cell(self, epoch: int, cell_id: str, *, at: datetime) -> None:
        """Record that a cell has gone to the kernel."""
        self.must_hold(epoch)
        if self.phase is not Phase.EXECUTING or self.running_cell is not None:
            raise IllegalTransitionError(f"Execution {self.id} cannot start a cell now.")
        if self.cell_statuses.get(cell_id) is not CellStatus.PENDING:
            raise IllegalTransitionError(f"Cell {cell_id!r} is not waiting to be run.")
        self.trigger_event(self.CellStarted, timestamp=at, epoch=epoch, cell_id=cell_id)

    def finish_cell(
        self,
        epoch: int,
        cell_id: str,
        *,
        status: CellStatus,
        execution_count: int | None,
        duration: float,
        outputs: Sequence[Output],
        output_count: int,
        output_bytes: int,
        error: CellError | None,
        at: datetime,
        outputs_digest: str | None = None,
        resources: Resources | None = None,
    ) -> None:
        """Record how the running cell ended; with ``SKIPPED``, that a cell was passed over."""
        self.must_hold(epoch)
        skipped = (
            status is CellStatus.SKIPPED and self.cell_statuses.get(cell_id) is CellStatus.PENDING
        )
        if not skipped:
            self.must_be_running(cell_id)
        self.trigger_event(
            self.CellExecuted,
            timestamp=at,
            epoch=epoch,
            cell_id=cell_id,
            status=status,
            execution_count=execution_count,
            duration=duration,
            outputs=list(outputs),
            output_count=output_count,
            output_bytes=output_bytes,
            error=error,
            outputs_digest=outputs_digest,
            resources=resources,
        )

    def save_outputs(
        self,
        epoch: int,
        cell_id: str,
        *,
        outputs: Sequence[Output],
        output_count: int,
        output_bytes: int,
        at: datetime,
    ) -> None:
        """Record what the running cell has put out so far."""
        self.must_hold(epoch)
        self.must_be_running(cell_id)
        self.trigger_event(
            self.OutputsSaved,
            timestamp=at,
            epoch=epoch,
            cell_id=cell_id,
            outputs=list(outputs),
            output_count=output_count,
            output_bytes=output_bytes,
        )

    def update_outputs(
        self,
        epoch: int,
        cell_id: str,
        *,
        outputs: Sequence[Output],
        output_count: int,
        output_bytes: int,
        outputs_digest: str | None,
        at: datetime,
    ) -> None:
        """Record that a later cell has changed what this one shows."""
        self.must_hold(epoch)
        if self.cell_statuses.get(cell_id) in (None, CellStatus.PENDING, CellStatus.RUNNING):
            raise IllegalTransitionError(f"Cell {cell_id!r} has not been run.")
        self.trigger_event(
            self.OutputsUpdated,
            timestamp=at,
            epoch=epoch,
            cell_id=cell_id,
            outputs=list(outputs),
            output_count=output_count,
            output_bytes=output_bytes,
            outputs_digest=outputs_digest,
        )

    def truncate_output(
        self, epoch: int, cell_id: str, *, output_bytes: int, kept_bytes: int, at: datetime
    ) -> None:
        """Record that not all of a cell's output was kept."""
        self.must_hold(epoch)
        self.trigger_event(
            self.OutputTruncated,
            timestamp=at,
            epoch=epoch,
            cell_id=cell_id,
            output_bytes=output_bytes,
            kept_bytes=kept_bytes,
        )

    def store_widgets(self, epoch: int, content: Representation, *, at: datetime) -> None:
        """Record what the widgets of all cells show."""
        self.must_hold(epoch)
        self.trigger_event(self.WidgetsStored, timestamp=at, epoch=epoch, content=content)

    def store_artifact(
        self,
        epoch: int,
        *,
        kind: ArtifactKind,
        name: str,
        file_name: str,
        content: Representation,
        attributes: dict[str, Any],
        at: datetime,
    ) -> None:
        """Record a file that the run produced."""
        self.must_hold(epoch)
        self.trigger_event(
            self.ArtifactStored,
            timestamp=at,
            epoch=epoch,
            kind=kind,
            name=name,
            file_name=file_name,
            content=content,
            attributes=attributes,
        )

    def log_metrics(
        self, epoch: int, metrics: dict[str, float], *, cell_id: str | None = None, at: datetime
    ) -> None:
        """Record figures that the notebook told, in this cell if it is known."""
        self.must_hold(epoch)
        self.trigger_event(
            self.MetricsLogged,
            timestamp=at,
            epoch=epoch,
            metrics=metrics,
            cell_id=UNSET if cell_id is None else cell_id,
        )


register(Execution)
