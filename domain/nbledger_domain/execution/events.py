"""What can happen to an execution. Each event says itself what it changes."""

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from eventsourcing.domain import CanInitAggregate
from msgspec import UNSET, UnsetType

from nbledger_domain.events import DomainEvent
from nbledger_domain.execution.values import (
    ArtifactKind,
    Cause,
    CellError,
    CellRange,
    CellStatus,
    EnvironmentStage,
    ExecutionStatus,
    GivenDataset,
    KernelFacts,
    Output,
    Phase,
    PlannedCell,
    Representation,
    Resources,
    RunOptions,
)
from nbledger_domain.vocabulary.termination import TerminationCode

if TYPE_CHECKING:
    from nbledger_domain.execution.state import ExecutionState


class Event(DomainEvent, frozen=True, kw_only=True):
    """Base of the events of an execution."""


class Requested(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
    """Somebody asked for a run; it waits for a worker.

    ``warnings`` say what the request asks for that the run does otherwise, ``tags`` are marks of
    the client's choice; both are absent without any. ``cause`` is absent where somebody asked for
    just this run. ``datasets`` are those that the run is given in these versions, whatever newer
    ones there are; absent where it is given the newest of all.
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
    tags: list[str] | UnsetType = UNSET
    cause: Cause | UnsetType = UNSET
    datasets: list[GivenDataset] | UnsetType = UNSET


class Claimed(Event, frozen=True, kw_only=True):
    """A worker has taken the run."""

    TYPE: ClassVar[str] = "execution.claimed.v1"
    epoch: int
    worker_id: str

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.epoch = self.epoch
        aggregate.worker_id = self.worker_id
        aggregate.phase = Phase.STARTING


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

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.phase = Phase.STARTING if self.stage == "ready" else Phase.PROVISIONING


class Warned(Event, frozen=True, kw_only=True):
    """Something about the run is not as was asked for, and it goes on."""

    TYPE: ClassVar[str] = "execution.warned.v1"
    epoch: int
    warning: str


class Started(Event, frozen=True, kw_only=True):
    """The kernel is up.

    ``packages`` is the list of all that the kernel could import, as text of lines
    ``name==version``; absent where that is not known, as of a kernel of another language. Both it
    and ``kernel`` are absent from events of before they were told.
    """

    TYPE: ClassVar[str] = "execution.started.v1"
    epoch: int
    language: str
    language_version: str
    kernel: KernelFacts | UnsetType = UNSET
    packages: Representation | UnsetType = UNSET

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.phase = Phase.EXECUTING


class DatasetsGiven(Event, frozen=True, kw_only=True):
    """The datasets that the run names are in its folder, in these versions.

    One that it names and the project does not hold is not among them. A run that names none has
    no such event.
    """

    TYPE: ClassVar[str] = "execution.datasets-given.v1"
    epoch: int
    datasets: list[GivenDataset]

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.given = {each.dataset_id: each.version for each in self.datasets}


class CellStarted(Event, frozen=True, kw_only=True):
    """A cell has gone to the kernel."""

    TYPE: ClassVar[str] = "execution.cell-started.v1"
    epoch: int
    cell_id: str

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.cell_statuses[self.cell_id] = CellStatus.RUNNING
        aggregate.running_cell = self.cell_id
        aggregate.has_run_cells = True
        aggregate.saved_bytes = (0, 0)


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

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.cell_statuses[self.cell_id] = self.status
        aggregate.running_cell = None


class OutputsSaved(Event, frozen=True, kw_only=True):
    """What the running cell has put out so far; replaces what was saved of it before."""

    TYPE: ClassVar[str] = "execution.outputs-saved.v1"
    epoch: int
    cell_id: str
    outputs: list[Output]
    output_count: int
    output_bytes: int

    def apply(self, aggregate: "ExecutionState") -> None:
        kept = sum(form.size for output in self.outputs for form in output.representations)
        aggregate.saved_bytes = (self.output_bytes, kept)


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

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.cancel_reason = self.reason


class AttemptLost(Event, frozen=True, kw_only=True):
    """The worker of this epoch was lost; ``restart`` says whether the run waits again."""

    TYPE: ClassVar[str] = "execution.attempt-lost.v1"
    epoch: int
    reason: str
    restart: bool
    code: TerminationCode = TerminationCode.WORKER_LOST

    def apply(self, aggregate: "ExecutionState") -> None:
        if self.restart:
            aggregate.phase = Phase.QUEUED
            aggregate.worker_id = None
            aggregate.cell_statuses = dict.fromkeys(aggregate.cell_statuses, CellStatus.PENDING)
            aggregate.running_cell = None
            aggregate.has_run_cells = False


class Completed(Event, frozen=True, kw_only=True):
    """The run came to its end."""

    TYPE: ClassVar[str] = "execution.completed.v1"
    resources: Resources

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.end(ExecutionStatus.COMPLETED, TerminationCode.SUCCESS)


class Failed(Event, frozen=True, kw_only=True):
    """The run ended early, by a fault."""

    TYPE: ClassVar[str] = "execution.failed.v1"
    reason: TerminationCode
    detail: str
    resources: Resources

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.end(ExecutionStatus.ERROR, self.reason)


class TimedOut(Event, frozen=True, kw_only=True):
    """The run or one of its cells took longer than allowed."""

    TYPE: ClassVar[str] = "execution.timed-out.v1"
    reason: TerminationCode
    detail: str
    resources: Resources

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.end(ExecutionStatus.ERROR, self.reason)


class KernelDied(Event, frozen=True, kw_only=True):
    """The kernel ended by itself, or was killed from outside."""

    TYPE: ClassVar[str] = "execution.kernel-died.v1"
    detail: str
    resources: Resources

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.end(ExecutionStatus.ERROR, TerminationCode.KERNEL_DIED)


class Cancelled(Event, frozen=True, kw_only=True):
    """The run was stopped on request."""

    TYPE: ClassVar[str] = "execution.cancelled.v1"
    reason: TerminationCode
    resources: Resources

    def apply(self, aggregate: "ExecutionState") -> None:
        aggregate.end(ExecutionStatus.CANCELLED, self.reason)


TERMINAL_EVENTS = (Completed, Failed, TimedOut, KernelDied, Cancelled)
