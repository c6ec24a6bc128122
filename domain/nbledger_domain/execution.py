"""The execution aggregate: one run of a notebook, from the request to its end."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate, CanInitAggregate, event
from msgspec import UNSET, Meta, UnsetType

from nbledger_domain.cells import CellType
from nbledger_domain.errors import (
    ExecutionEndedError,
    IllegalTransitionError,
    StaleEpochError,
)
from nbledger_domain.events import DomainEvent, register
from nbledger_domain.not_kept import NotKept


class ExecutionStatus(StrEnum):
    """What a client is told; everything but ``RUNNING`` is final."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    ERROR = "Error"
    CANCELLED = "Cancelled"


class Phase(StrEnum):
    """What a running execution is doing."""

    QUEUED = "Queued"
    PROVISIONING = "Provisioning"
    STARTING = "Starting"
    EXECUTING = "Executing"


class CellStatus(StrEnum):
    """What has become of one cell."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESS = "Success"
    ERROR = "Error"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"


class TerminationCode(StrEnum):
    """Why an execution ended. The comments tell whose doing it was."""

    SUCCESS = "success"
    CELL_ERROR = "cell_error"  # the notebook's
    CANCELLED = "cancelled"  # somebody asked for it
    NOTEBOOK_DELETED = "notebook_deleted"  # somebody asked for it
    RUN_TIMEOUT = "run_timeout"  # a limit
    CELL_TIMEOUT = "cell_timeout"  # a limit
    QUEUE_TIMEOUT = "queue_timeout"  # a limit
    MEMORY_LIMIT = "memory_limit"  # a limit
    CPU_LIMIT = "cpu_limit"  # a limit
    PROCESS_LIMIT = "process_limit"  # a limit
    DISK_LIMIT = "disk_limit"  # a limit
    OUTPUT_LIMIT = "output_limit"  # a limit
    ENVIRONMENT_FAILED = "environment_failed"  # the notebook's: a package that cannot be had
    KERNEL_DIED = "kernel_died"  # the notebook's, or the platform's when memory ran out
    KERNEL_START_FAILED = "kernel_start_failed"  # the platform's
    WORKER_LOST = "worker_lost"  # the platform's
    ARTIFACT_STORE_UNAVAILABLE = "artifact_store_unavailable"  # the platform's
    INTERNAL_ERROR = "internal_error"  # the platform's


Priority = Literal["Low", "Normal", "High"]
PRIORITIES: tuple[Priority, ...] = ("High", "Normal", "Low")
"""What may overtake what: the first of them all others."""

EnvironmentStage = Literal["waiting", "resolving", "building", "ready"]

ArtifactKind = Literal["report", "dataset", "model", "file"]

RetryReason = Literal["worker_lost", "kernel_died", "cell_error", "run_timeout", "cell_timeout"]


class CellRange(msgspec.Struct, frozen=True, rename="camel"):
    """From one cell to another, both included."""

    start_cell: str
    end_cell: str


class OutputOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is kept of a run. ``report_code`` says whether its report shows the cells' code."""

    capture_outputs: bool = True
    save_intermediate_results: bool = True
    generate_report: bool = False
    report_code: Literal["show", "hide"] | UnsetType = UNSET


class RetryPolicy(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """When a run whose cells have begun may begin anew, from its first cell.

    ``max_attempts`` counts the first one too. ``retry_on`` are the ends that allow another.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    retry_on: tuple[RetryReason, ...] = ("worker_lost", "kernel_died")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How to run. ``timeout`` bounds the run, ``cell_timeout`` each cell; both in seconds.

    Without a ``retry_policy`` a run whose cells have begun never begins anew.
    """

    timeout: float
    cell_timeout: float | None = None
    priority: Priority = "Normal"
    continue_on_error: bool = False
    output_options: OutputOptions = OutputOptions()
    retry_policy: RetryPolicy | None = None


class PlannedCell(msgspec.Struct, frozen=True, rename="camel"):
    """A cell that the run covers; only code cells go to the kernel."""

    cell_id: str
    cell_type: CellType


class Representation(msgspec.Struct, frozen=True, rename="camel"):
    """One form of an output: its media type, and its bytes by SHA-256 and size."""

    content_type: str
    digest: str
    size: int


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One output of a cell.

    ``output_type`` is nbformat's: stream, display_data, execute_result or error.
    ``representations`` holds the richest form first. ``stream`` is stdout or stderr. ``width``
    and ``height`` are those of a picture, in pixels; ``rows`` and ``columns`` those of a table.
    ``not_kept_before`` tells what came between the output before and this one, and is not kept.
    """

    output_type: str
    representations: list[Representation]
    stream: str | None = None
    title: str | None = None
    width: int | None = None
    height: int | None = None
    rows: int | None = None
    columns: int | None = None
    metadata: dict[str, Any] = {}
    not_kept_before: NotKept | None = None


class CellError(msgspec.Struct, frozen=True, rename="camel"):
    """The exception that a cell ended with; ``traceback`` without terminal colours."""

    error_type: str
    error_message: str
    traceback: list[str]


class Resources(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run used, children included; memory is the peak."""

    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    disk_bytes: int | None = None


class Execution(BaseAggregate[UUID]):
    """One run of a notebook.

    A worker claims it before it does anything, and every claim raises ``epoch`` by one; steps
    of an earlier epoch are refused (:class:`StaleEpochError`), so that of two workers which
    both believe that they hold it only the last to claim is heard.
    """

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of an execution."""

    class Requested(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """Somebody asked for a run; it waits for a worker.

        ``warnings`` say what the request asks for that the run does otherwise; absent without any.
        """

        TYPE: ClassVar[str] = "execution.requested.v1"
        originator_topic: str
        notebook_id: UUID
        notebook_version: str
        notebook_stream_version: int
        kernel_type: str
        cell_range: CellRange | None
        cells: list[PlannedCell]
        parameters: dict[str, Any]
        options: RunOptions
        requested_by: str
        warnings: list[str] | UnsetType = UNSET

    class Claimed(Event, frozen=True, kw_only=True):
        """A worker has taken the run."""

        TYPE: ClassVar[str] = "execution.claimed.v1"
        epoch: int
        worker_id: str

    class EnvironmentProgressed(Event, frozen=True, kw_only=True):
        """The packages that the notebook asks for are being provided, or are there.

        ``packages`` are those that the kernel gets beside its own, as ``name==version``, and
        ``environment`` names the environment that holds them; both as soon as they are known.
        """

        TYPE: ClassVar[str] = "execution.environment-progressed.v1"
        epoch: int
        stage: EnvironmentStage
        environment: str | None
        packages: list[str]

    class Warned(Event, frozen=True, kw_only=True):
        """Something about the run is not as was asked for, and it goes on."""

        TYPE: ClassVar[str] = "execution.warned.v1"
        epoch: int
        warning: str

    class Started(Event, frozen=True, kw_only=True):
        """The kernel is up."""

        TYPE: ClassVar[str] = "execution.started.v1"
        epoch: int
        language: str
        language_version: str

    class CellStarted(Event, frozen=True, kw_only=True):
        """A cell has gone to the kernel."""

        TYPE: ClassVar[str] = "execution.cell-started.v1"
        epoch: int
        cell_id: str

    class CellExecuted(Event, frozen=True, kw_only=True):
        """A cell has ended, well or not. ``duration`` is in seconds.

        ``output_bytes`` and ``output_count`` say what the cell put out, ``outputs`` what was
        kept of it. ``outputs_digest`` is the SHA-256, as hexadecimal digits, over all outputs
        that the cell put out, so that it can be told whether what is kept is all there was.
        """

        TYPE: ClassVar[str] = "execution.cell-executed.v1"
        epoch: int
        cell_id: str
        status: CellStatus
        execution_count: int | None
        duration: float
        outputs: list[Output]
        output_count: int
        output_bytes: int
        error: CellError | None
        outputs_digest: str | None = None
        resources: Resources | None = None

    class OutputsSaved(Event, frozen=True, kw_only=True):
        """What the running cell has put out so far; replaces what was saved of it before."""

        TYPE: ClassVar[str] = "execution.outputs-saved.v1"
        epoch: int
        cell_id: str
        outputs: list[Output]
        output_count: int
        output_bytes: int

    class OutputsUpdated(Event, frozen=True, kw_only=True):
        """A later cell changed a display of this one; its outputs are now these."""

        TYPE: ClassVar[str] = "execution.outputs-updated.v1"
        epoch: int
        cell_id: str
        outputs: list[Output]
        output_count: int
        output_bytes: int
        outputs_digest: str | None = None

    class OutputTruncated(Event, frozen=True, kw_only=True):
        """A cell put out more than is kept, or may have; sizes in bytes, as far as known."""

        TYPE: ClassVar[str] = "execution.output-truncated.v1"
        epoch: int
        cell_id: str
        output_bytes: int
        kept_bytes: int

    class WidgetsStored(Event, frozen=True, kw_only=True):
        """What the notebook's widgets show, as notebooks have it in their metadata."""

        TYPE: ClassVar[str] = "execution.widgets-stored.v1"
        epoch: int
        content: Representation

    class ArtifactStored(Event, frozen=True, kw_only=True):
        """The run produced what is kept as a file: a report, a dataset, a model, or another."""

        TYPE: ClassVar[str] = "execution.artifact-stored.v1"
        epoch: int
        kind: ArtifactKind
        name: str
        file_name: str
        content: Representation
        attributes: dict[str, Any]

    class MetricsLogged(Event, frozen=True, kw_only=True):
        """The notebook told figures by name; of figures with one name the last one holds.

        ``cell_id`` is the cell that told them, where that is known.
        """

        TYPE: ClassVar[str] = "execution.metrics-logged.v1"
        epoch: int
        metrics: dict[str, float]
        cell_id: str | UnsetType = UNSET

    class CancelRequested(Event, frozen=True, kw_only=True):
        """Somebody asked for the run to stop."""

        TYPE: ClassVar[str] = "execution.cancel-requested.v1"
        requested_by: str
        reason: TerminationCode

    class AttemptLost(Event, frozen=True, kw_only=True):
        """The worker of this epoch was lost; ``restart`` says whether the run waits again."""

        TYPE: ClassVar[str] = "execution.attempt-lost.v1"
        epoch: int
        reason: str
        restart: bool
        code: TerminationCode = TerminationCode.WORKER_LOST

    class Completed(Event, frozen=True, kw_only=True):
        """The run came to its end."""

        TYPE: ClassVar[str] = "execution.completed.v1"
        resources: Resources

    class Failed(Event, frozen=True, kw_only=True):
        """The run ended early, by a fault."""

        TYPE: ClassVar[str] = "execution.failed.v1"
        reason: TerminationCode
        detail: str
        resources: Resources

    class TimedOut(Event, frozen=True, kw_only=True):
        """The run or one of its cells took longer than allowed."""

        TYPE: ClassVar[str] = "execution.timed-out.v1"
        reason: TerminationCode
        detail: str
        resources: Resources

    class KernelDied(Event, frozen=True, kw_only=True):
        """The kernel ended by itself, or was killed from outside."""

        TYPE: ClassVar[str] = "execution.kernel-died.v1"
        detail: str
        resources: Resources

    class Cancelled(Event, frozen=True, kw_only=True):
        """The run was stopped on request."""

        TYPE: ClassVar[str] = "execution.cancelled.v1"
        reason: TerminationCode
        resources: Resources

    @event(Requested)
    def __init__(
        self,
        *,
        notebook_id: UUID,
        notebook_version: str,
        notebook_stream_version: int,
        kernel_type: str,
        cell_range: CellRange | None,
        cells: list[PlannedCell],
        parameters: dict[str, Any],
        options: RunOptions,
        requested_by: str,
        warnings: list[str] | UnsetType = UNSET,
    ) -> None:
        self.warnings = list(warnings or ())
        self.notebook_id = notebook_id
        self.notebook_version = notebook_version
        self.notebook_stream_version = notebook_stream_version
        self.kernel_type = kernel_type
        self.cell_range = cell_range
        self.cells = cells
        self.parameters = parameters
        self.options = options
        self.requested_by = requested_by
        self.status = ExecutionStatus.RUNNING
        self.phase: Phase | None = Phase.QUEUED
        self.epoch = 0
        self.worker_id: str | None = None
        self.cancel_reason: TerminationCode | None = None
        self.termination_code: TerminationCode | None = None
        self.cell_statuses = {cell.cell_id: CellStatus.PENDING for cell in cells}
        self.running_cell: str | None = None
        self.has_run_cells = False
        self.saved_bytes = (0, 0)
        """Of the running cell: bytes of what it has put out so far as is recorded, and kept."""

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
    ) -> "Execution":
        """A new execution, waiting for a worker.

        ``notebook_stream_version`` pins the cells that will run: the notebook as it is at
        that version of its stream, whatever is changed in it later.
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
        )

    @property
    def ended(self) -> bool:
        """Whether the terminal event has happened."""
        return self.status is not ExecutionStatus.RUNNING

    def claim(self, worker_id: str, *, at: datetime) -> int:
        """Take a waiting execution; returns the new epoch.

        Raises :class:`ExecutionEndedError`, or :class:`IllegalTransitionError` while another
        attempt holds it.
        """
        self._must_run()
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
        self._must_hold(epoch)
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
        self._must_hold(epoch)
        self.trigger_event(self.Warned, timestamp=at, epoch=epoch, warning=warning)

    def start(self, epoch: int, *, language: str, language_version: str, at: datetime) -> None:
        """Record that the kernel is up."""
        self._must_hold(epoch)
        if self.phase is not Phase.STARTING:
            raise IllegalTransitionError(f"Execution {self.id} has already started.")
        self.trigger_event(
            self.Started,
            timestamp=at,
            epoch=epoch,
            language=language,
            language_version=language_version,
        )

    def start_cell(self, epoch: int, cell_id: str, *, at: datetime) -> None:
        """Record that a cell has gone to the kernel."""
        self._must_hold(epoch)
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
        self._must_hold(epoch)
        skipped = (
            status is CellStatus.SKIPPED and self.cell_statuses.get(cell_id) is CellStatus.PENDING
        )
        if not skipped:
            self._must_be_running(cell_id)
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
        self._must_hold(epoch)
        self._must_be_running(cell_id)
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
        self._must_hold(epoch)
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
        self._must_hold(epoch)
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
        self._must_hold(epoch)
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
        self._must_hold(epoch)
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
        self._must_hold(epoch)
        self.trigger_event(
            self.MetricsLogged,
            timestamp=at,
            epoch=epoch,
            metrics=metrics,
            cell_id=UNSET if cell_id is None else cell_id,
        )

    def request_cancel(
        self,
        *,
        requested_by: str,
        at: datetime,
        reason: TerminationCode = TerminationCode.CANCELLED,
    ) -> None:
        """Ask for a stop. A waiting execution ends at once; asking again changes nothing.

        Raises :class:`ExecutionEndedError`.
        """
        self._must_run()
        if self.cancel_reason is not None:
            return
        self.trigger_event(
            self.CancelRequested, timestamp=at, requested_by=requested_by, reason=reason
        )
        if self.phase is Phase.QUEUED:
            self.trigger_event(self.Cancelled, timestamp=at, reason=reason, resources=Resources())

    def lose_attempt(self, epoch: int, reason: str, *, at: datetime) -> None:
        """Record that the worker of ``epoch`` is lost, and output of a running cell perhaps too.

        Before the first cell the execution waits for a worker again. After it the run has
        failed, since what its cells have done outside cannot be undone; unless its request
        allows that they run twice.
        """
        self._must_hold(epoch)
        if self.phase is Phase.QUEUED:
            raise IllegalTransitionError(f"Execution {self.id} is held by no worker.")
        restart = self.cancel_reason is None and (
            not self.has_run_cells or self.may_retry(TerminationCode.WORKER_LOST)
        )
        if not restart:
            self._flag_running_cell(epoch, at=at)
        self.trigger_event(
            self.AttemptLost, timestamp=at, epoch=epoch, reason=reason, restart=restart
        )
        if restart:
            return
        if self.cancel_reason is not None:
            self.trigger_event(
                self.Cancelled, timestamp=at, reason=self.cancel_reason, resources=Resources()
            )
        else:
            self.trigger_event(
                self.Failed,
                timestamp=at,
                reason=TerminationCode.WORKER_LOST,
                detail=reason,
                resources=Resources(),
            )

    def may_retry(self, code: TerminationCode) -> bool:
        """Whether the request allows that an attempt which ends so is followed by another."""
        policy = self.options.retry_policy
        return (
            policy is not None
            and self.cancel_reason is None
            and code.value in policy.retry_on
            and self.epoch < policy.max_attempts
        )

    def retry(self, epoch: int, code: TerminationCode, reason: str, *, at: datetime) -> None:
        """End this attempt, so that the run waits to begin anew.

        Raises :class:`IllegalTransitionError` where the request does not allow it.
        """
        self._must_hold(epoch)
        if not self.may_retry(code):
            raise IllegalTransitionError(f"Execution {self.id} may not begin anew.")
        self.trigger_event(
            self.AttemptLost, timestamp=at, epoch=epoch, reason=reason, restart=True, code=code
        )

    def complete(self, epoch: int, *, resources: Resources, at: datetime) -> None:
        """End the run: every cell that was to run has run."""
        self._must_hold(epoch)
        self.trigger_event(self.Completed, timestamp=at, resources=resources)

    def fail(
        self,
        epoch: int,
        reason: TerminationCode,
        *,
        detail: str,
        resources: Resources,
        at: datetime,
    ) -> None:
        """End the run early by a fault."""
        self._must_hold(epoch)
        self._flag_running_cell(epoch, at=at)
        self.trigger_event(
            self.Failed, timestamp=at, reason=reason, detail=detail, resources=resources
        )

    def time_out(
        self,
        epoch: int,
        reason: TerminationCode,
        *,
        detail: str,
        resources: Resources,
        at: datetime,
    ) -> None:
        """End the run because it, or a cell, took too long."""
        self._must_hold(epoch)
        self.trigger_event(
            self.TimedOut, timestamp=at, reason=reason, detail=detail, resources=resources
        )

    def kernel_died(self, epoch: int, *, detail: str, resources: Resources, at: datetime) -> None:
        """End the run because its kernel is gone."""
        self._must_hold(epoch)
        self.trigger_event(self.KernelDied, timestamp=at, detail=detail, resources=resources)

    def expire(self, *, detail: str, at: datetime) -> None:
        """End a run that no worker has taken in time."""
        self._must_run()
        if self.phase is not Phase.QUEUED:
            raise IllegalTransitionError(f"Execution {self.id} does not wait.")
        self.trigger_event(
            self.TimedOut,
            timestamp=at,
            reason=TerminationCode.QUEUE_TIMEOUT,
            detail=detail,
            resources=Resources(),
        )

    def cancel(
        self,
        epoch: int,
        *,
        resources: Resources,
        at: datetime,
        reason: TerminationCode = TerminationCode.CANCELLED,
    ) -> None:
        """End the run as it was asked to."""
        self._must_hold(epoch)
        self.trigger_event(
            self.Cancelled,
            timestamp=at,
            reason=self.cancel_reason or reason,
            resources=resources,
        )

    def _flag_running_cell(self, epoch: int, *, at: datetime) -> None:
        """Record that output of a cell may be lost whose end nobody has seen."""
        if self.running_cell is None:
            return
        output_bytes, kept_bytes = self.saved_bytes
        self.truncate_output(
            epoch, self.running_cell, output_bytes=output_bytes, kept_bytes=kept_bytes, at=at
        )

    def _must_run(self) -> None:
        if self.ended:
            raise ExecutionEndedError(self.id, self.status)

    def _must_hold(self, epoch: int) -> None:
        self._must_run()
        if epoch != self.epoch or self.phase is Phase.QUEUED:
            raise StaleEpochError(self.id, epoch, self.epoch)

    def _must_be_running(self, cell_id: str) -> None:
        if self.running_cell != cell_id:
            raise IllegalTransitionError(f"Cell {cell_id!r} is not running.")

    @event(Claimed)
    def _apply_claimed(self, epoch: int, worker_id: str) -> None:
        self.epoch = epoch
        self.worker_id = worker_id
        self.phase = Phase.STARTING

    @event(EnvironmentProgressed)
    def _apply_environment_progressed(self, stage: EnvironmentStage) -> None:
        self.phase = Phase.STARTING if stage == "ready" else Phase.PROVISIONING

    @event(Warned)
    def _apply_warned(self) -> None:
        pass

    @event(Started)
    def _apply_started(self) -> None:
        self.phase = Phase.EXECUTING

    @event(CellStarted)
    def _apply_cell_started(self, cell_id: str) -> None:
        self.cell_statuses[cell_id] = CellStatus.RUNNING
        self.running_cell = cell_id
        self.has_run_cells = True
        self.saved_bytes = (0, 0)

    @event(CellExecuted)
    def _apply_cell_executed(self, cell_id: str, status: CellStatus) -> None:
        self.cell_statuses[cell_id] = status
        self.running_cell = None

    @event(OutputsSaved)
    def _apply_outputs_saved(self, outputs: list[Output], output_bytes: int) -> None:
        kept = sum(form.size for output in outputs for form in output.representations)
        self.saved_bytes = (output_bytes, kept)

    @event(OutputsUpdated)
    def _apply_outputs_updated(self) -> None:
        pass

    @event(OutputTruncated)
    def _apply_output_truncated(self) -> None:
        pass

    @event(WidgetsStored)
    def _apply_widgets_stored(self) -> None:
        pass

    @event(ArtifactStored)
    def _apply_artifact_stored(self) -> None:
        pass

    @event(MetricsLogged)
    def _apply_metrics_logged(self) -> None:
        pass

    @event(CancelRequested)
    def _apply_cancel_requested(self, reason: TerminationCode) -> None:
        self.cancel_reason = reason

    @event(AttemptLost)
    def _apply_attempt_lost(self, restart: bool) -> None:  # noqa: FBT001 (named by the event)
        if restart:
            self.phase = Phase.QUEUED
            self.worker_id = None
            self.cell_statuses = dict.fromkeys(self.cell_statuses, CellStatus.PENDING)
            self.running_cell = None
            self.has_run_cells = False

    @event(Completed)
    def _apply_completed(self) -> None:
        self._end(ExecutionStatus.COMPLETED, TerminationCode.SUCCESS)

    @event(Failed)
    def _apply_failed(self, reason: TerminationCode) -> None:
        self._end(ExecutionStatus.ERROR, reason)

    @event(TimedOut)
    def _apply_timed_out(self, reason: TerminationCode) -> None:
        self._end(ExecutionStatus.ERROR, reason)

    @event(KernelDied)
    def _apply_kernel_died(self) -> None:
        self._end(ExecutionStatus.ERROR, TerminationCode.KERNEL_DIED)

    @event(Cancelled)
    def _apply_cancelled(self, reason: TerminationCode) -> None:
        self._end(ExecutionStatus.CANCELLED, reason)

    def _end(self, status: ExecutionStatus, code: TerminationCode) -> None:
        self.status = status
        self.phase = None
        self.termination_code = code
        self.running_cell = None


TERMINAL_EVENTS = (
    Execution.Completed,
    Execution.Failed,
    Execution.TimedOut,
    Execution.KernelDied,
    Execution.Cancelled,
)

register(Execution)
