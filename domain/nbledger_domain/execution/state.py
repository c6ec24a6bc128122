"""What an execution is at one moment, and what that forbids."""

from typing import Any
from uuid import UUID

from eventsourcing.domain import BaseAggregate
from msgspec import UNSET, UnsetType

from nbledger_domain.errors import (
    ExecutionEndedError,
    IllegalTransitionError,
    StaleEpochError,
)
from nbledger_domain.execution.values import (
    REQUESTED_CAUSE,
    Cause,
    CellRange,
    CellStatus,
    ExecutionStatus,
    GivenDataset,
    Phase,
    PlannedCell,
    RunOptions,
)
from nbledger_domain.vocabulary.termination import TerminationCode


class ExecutionState(BaseAggregate[UUID]):
    """The state that events change, and the checks that commands make."""

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
        tags: list[str] | UnsetType = UNSET,
        cause: Cause | UnsetType = UNSET,
        datasets: list[GivenDataset] | UnsetType = UNSET,
    ) -> None:
        self.warnings = list(warnings or ())
        self.tags = list(tags or ())
        self.notebook_id = notebook_id
        self.notebook_version = notebook_version
        self.notebook_stream_version = notebook_stream_version
        self.kernel_type = kernel_type
        self.cell_range = cell_range
        self.cells = cells
        self.parameters = parameters
        self.options = options
        self.requested_by = requested_by
        self.cause = REQUESTED_CAUSE if cause is UNSET else cause
        self.pinned = {each.dataset_id: each.version for each in datasets or ()}
        """Datasets that it is given in these versions, whatever newer ones there are."""
        self.given: dict[UUID, int] | None = None
        """The versions that it was given last of the datasets it names; ``None``: not recorded."""
        self.status = ExecutionStatus.RUNNING
        self.phase: Phase | None = Phase.QUEUED
        self.epoch = 0
        self.worker_id: str | None = None
        self.cancel_reason: TerminationCode | None = None
        self.termination_code: TerminationCode | None = None
        self.cell_statuses = {cell.cell_id: CellStatus.PENDING for cell in cells}
        self.running_cell: str | None = None
        self.has_run_cells = False
        self.saved_bytes: tuple[int, int] = (0, 0)
        """Of the running cell: bytes of what it has put out so far as is recorded, and kept."""

    @property
    def ended(self) -> bool:
        """Whether the terminal event has happened."""
        return self.status is not ExecutionStatus.RUNNING

    def may_retry(self, code: TerminationCode) -> bool:
        """Whether the request allows that an attempt which ends so is followed by another."""
        policy = self.options.retry_policy
        return (
            policy is not None
            and self.cancel_reason is None
            and code.value in policy.retry_on
            and self.epoch < policy.max_attempts
        )

    def must_run(self) -> None:
        """Raise :class:`ExecutionEndedError` unless the execution is still under way."""
        if self.ended:
            raise ExecutionEndedError(self.id, self.status)

    def must_hold(self, epoch: int) -> None:
        """Raise :class:`StaleEpochError` unless the attempt ``epoch`` holds the execution."""
        self.must_run()
        if epoch != self.epoch or self.phase is Phase.QUEUED:
            raise StaleEpochError(self.id, epoch, self.epoch)

    def must_be_running(self, cell_id: str) -> None:
        """Raise :class:`IllegalTransitionError` unless this cell is running."""
        if self.running_cell != cell_id:
            raise IllegalTransitionError(f"Cell {cell_id!r} is not running.")

    def end(self, status: ExecutionStatus, code: TerminationCode) -> None:
        """Enter a final status."""
        self.status = status
        self.phase = None
        self.termination_code = code
        self.running_cell = None
