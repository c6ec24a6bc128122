"""An execution as the API tells it: the members of its JSON document, quantities as numbers."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nbledger_domain.execution import REQUESTED_CAUSE, Cause, CellRange, RetryPolicy
from nbledger_projections.read_models.humanize import Duration, Estimate, Size
from nbledger_projections.read_models.notices import SlowRunDocument


class ProgressDocument(msgspec.Struct, rename="camel"):
    """How far the run is; ``current_cell_index`` counts from 1 and is told while it runs."""

    total_cells: int
    completed_cells: int = 0
    successful_cells: int = 0
    failed_cells: int = 0
    current_cell_index: int | UnsetType = UNSET
    percent_complete: int = 0


class ResourcesDocument(msgspec.Struct, rename="camel"):
    """What the run, or one cell, used, in words and as numbers; null until it is known."""

    peak_memory_usage: Size | None = None
    cpu_time: Duration | None = None
    disk_usage: Size | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    disk_bytes: int | None = None


class CellResultDocument(msgspec.Struct, rename="camel"):
    """What has become of one cell of the plan; ``output_type`` is that of its first output.

    ``data_frames`` and ``plots`` are told where there are any.
    """

    cell_id: str
    status: str
    execution_time: Duration | UnsetType = UNSET
    has_output: bool = False
    output_type: str | UnsetType = UNSET
    data_frames: int | UnsetType = UNSET
    plots: int | UnsetType = UNSET
    error_type: str | UnsetType = UNSET
    error_message: str | UnsetType = UNSET
    resources: ResourcesDocument | UnsetType = UNSET


class EnrichedDatasetDocument(msgspec.Struct, rename="camel"):
    """A dataset that the run handed back, as it did so last; no id where none is kept of it."""

    name: str
    dataset_id: str | None
    record_count: int
    new_columns: list[str]


class EnrichedDataDocument(msgspec.Struct, rename="camel"):
    """What the datasets of the run add up to, each in the newest version that the run made."""

    record_count: int
    new_columns: list[str]
    datasets: list[EnrichedDatasetDocument] = []


class OutputsDocument(msgspec.Struct, rename="camel"):
    """How much the run has put out so far, by kind."""

    data_frames: int = 0
    plots: int = 0
    models: int = 0
    reports: int = 0
    files: int = 0
    enriched_data: EnrichedDataDocument | UnsetType = UNSET


class ErrorDocument(msgspec.Struct, rename="camel"):
    """Why the run failed."""

    termination_code: str
    detail: str


class AttemptDocument(msgspec.Struct, kw_only=True, rename="camel"):
    """One attempt of a worker: ``outcome`` is Running, or the code that it ended with."""

    attempt: int
    worker_id: str
    start_time: str
    end_time: str | UnsetType = UNSET
    outcome: str
    detail: str | UnsetType = UNSET


class RunEnvironmentDocument(msgspec.Struct, rename="camel"):
    """The packages that the kernel got beside its own, and how far providing them has come.

    ``stage`` is waiting (another run builds the same), resolving, building or ready.
    """

    stage: str
    packages: list[str] = []


class RepetitionDocument(msgspec.Struct, rename="camel"):
    """A run that repeats this one: it is its `cause`."""

    execution_id: str
    kind: Literal["rerun", "repair"]


class QueueDocument(msgspec.Struct, rename="camel"):
    """Where a run that waits stands in the queue, at this moment.

    ``position`` counts from 1, up to 1000: how many runs of the kernel type and priority are to
    start up to and with this one, if nothing else comes and no limit holds another one back.
    ``reason`` is starting (a slot is free), noSlot, noWorker (none that is alive offers the kernel
    type), notebookLimit (maxConcurrentRuns), projectLimit or tenantLimit. ``since`` is when it
    began to wait. ``estimated_wait_seconds`` goes by how long runs took lately, and is null where
    that cannot be told.
    """

    position: Annotated[int, Meta(ge=1, le=1000, examples=[4])]
    reason: Annotated[
        Literal["starting", "noSlot", "noWorker", "notebookLimit", "projectLimit", "tenantLimit"],
        Meta(examples=["noSlot"]),
    ]
    since: Annotated[str, Meta(examples=["2024-01-20T10:30:00.000Z"])]
    estimated_wait_seconds: Annotated[float, Meta(examples=[42.5])] | None


class DurationWarningDocument(SlowRunDocument, rename="camel"):
    """That the run was told to take longer than usual, and when."""

    told_at: str


class ExecutionDocument(msgspec.Struct, kw_only=True, rename="camel"):
    """The body that ``GET …/execution/{executionId}`` answers with.

    The estimate is left out until a run of the same cells of the notebook has completed. ``queue``
    is told of one that waits, ``duration_warning`` of one that takes longer than usual, or did, and
    ``repetitions`` of one that was run again, oldest first; all where a single one is asked for.
    """

    execution_id: str
    notebook_id: str
    notebook_version: str
    kernel_type: str
    status: str
    phase: str | UnsetType = UNSET
    queue: QueueDocument | UnsetType = UNSET
    start_time: str
    end_time: str | UnsetType = UNSET
    total_duration: Duration | UnsetType = UNSET
    estimated_duration: Estimate | UnsetType | None = UNSET
    current_cell: str | UnsetType | None = UNSET
    progress: ProgressDocument
    parameters: dict[str, Any]
    cell_range: CellRange | UnsetType = UNSET
    cell_results: list[CellResultDocument]
    outputs: OutputsDocument
    resources: ResourcesDocument
    attempts: int
    attempt_history: list[AttemptDocument]
    requested_by: str
    tags: list[str] | UnsetType = UNSET
    cause: Cause = REQUESTED_CAUSE
    priority: str
    timeout: int | float
    cell_timeout: int | float | UnsetType = UNSET
    continue_on_error: bool
    retry_policy: RetryPolicy | UnsetType = UNSET
    cancel_requested: bool
    termination_code: str | UnsetType = UNSET
    termination_category: str | UnsetType = UNSET
    error: ErrorDocument | UnsetType = UNSET
    environment: RunEnvironmentDocument | UnsetType = UNSET
    run_warnings: list[str] = []
    duration_warning: DurationWarningDocument | UnsetType = UNSET
    metrics: dict[str, float] | UnsetType = UNSET
    repetitions: list[RepetitionDocument] | UnsetType = UNSET
