"""Types of the API: executions. Made by `make client-models`."""

from typing import Any

import msgspec

from nbledger_client.answers import Answered
from nbledger_client.models.common import (
    AttemptDocument,
    Cause,
    CellRange,
    ErrorDocument,
    RepetitionDocument,
    RetryPolicy,
    Session,
    UsualDocument,
)


class ResourcesDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What the run, or one cell, used, in words and as numbers; null until it is known."""

    peak_memory_usage: str | None = None
    cpu_time: str | None = None
    disk_usage: str | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    disk_bytes: int | None = None


class CellResultDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What has become of one cell of the plan; `output_type` is that of its first output.

    `data_frames` and `plots` are told where there are any.
    """

    cell_id: str
    status: str
    execution_time: str | None = None
    has_output: bool = False
    output_type: str | None = None
    data_frames: int | None = None
    plots: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    resources: ResourcesDocument | None = None


class DurationWarningDocument(msgspec.Struct, rename="camel", kw_only=True):
    """That the run was told to take longer than usual, and when."""

    started_at: str
    seconds: float
    threshold_seconds: float
    usual: UsualDocument
    told_at: str


class EnrichedDatasetDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A dataset that the run handed back, as it did so last; no id where none is kept of it."""

    name: str
    dataset_id: str | None
    record_count: int
    new_columns: list[str]


class EnrichedDataDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What the datasets of the run add up to, each in the newest version that the run made."""

    record_count: int
    new_columns: list[str]
    datasets: list[EnrichedDatasetDocument] = []


class OutputsDocument(msgspec.Struct, rename="camel", kw_only=True):
    """How much the run has put out so far, by kind."""

    data_frames: int = 0
    plots: int = 0
    models: int = 0
    reports: int = 0
    files: int = 0
    enriched_data: EnrichedDataDocument | None = None


class ProgressDocument(msgspec.Struct, rename="camel", kw_only=True):
    """How far the run is; `current_cell_index` counts from 1 and is told while it runs."""

    total_cells: int
    completed_cells: int = 0
    successful_cells: int = 0
    failed_cells: int = 0
    current_cell_index: int | None = None
    percent_complete: int = 0


class QueueDocument(msgspec.Struct, rename="camel", kw_only=True):
    """Where a run that waits stands in the queue, at this moment.

    `position` counts from 1, up to 1000: how many runs of the kernel type and priority are to
    start up to and with this one, if nothing else comes and no limit holds another one back.
    `reason` is starting (a slot is free), noSlot, noWorker (none that is alive offers the kernel
    type), notebookLimit (maxConcurrentRuns), projectLimit or tenantLimit. `since` is when it began
    to wait. `estimated_wait_seconds` goes by how long runs took lately, and is null where that
    cannot be told.
    """

    position: int
    reason: str
    since: str
    estimated_wait_seconds: float | None


class RunEnvironmentDocument(msgspec.Struct, rename="camel", kw_only=True):
    """The packages that the kernel got beside its own, and how far providing them has come.

    `stage` is waiting (another run builds the same), resolving, building or ready.
    """

    stage: str
    packages: list[str] = []


class ExecutionDocument(Answered, rename="camel", kw_only=True):
    """The body that `GET …/execution/{executionId}` answers with.

    The estimate is left out until a run of the same cells of the notebook has completed. `queue`
    is told of one that waits, `duration_warning` of one that takes longer than usual, or did, and
    `repetitions` of one that was run again, oldest first; all where a single one is asked for.
    """

    execution_id: str
    notebook_id: str
    notebook_version: str
    kernel_type: str
    status: str
    phase: str | None = None
    queue: QueueDocument | None = None
    start_time: str
    end_time: str | None = None
    total_duration: str | None = None
    estimated_duration: str | None = None
    current_cell: str | None = None
    progress: ProgressDocument
    parameters: dict[str, Any]
    cell_range: CellRange | None = None
    cell_results: list[CellResultDocument]
    outputs: OutputsDocument
    resources: ResourcesDocument
    attempts: int
    attempt_history: list[AttemptDocument]
    requested_by: str
    tags: list[str] | None = None
    cause: Cause = msgspec.field(default_factory=lambda: Cause(kind="request"))
    priority: str
    timeout: float
    cell_timeout: float | None = None
    continue_on_error: bool
    retry_policy: RetryPolicy | None = None
    cancel_requested: bool
    termination_code: str | None = None
    termination_category: str | None = None
    error: ErrorDocument | None = None
    environment: RunEnvironmentDocument | None = None
    run_warnings: list[str] = []
    duration_warning: DurationWarningDocument | None = None
    metrics: dict[str, float] | None = None
    repetitions: list[RepetitionDocument] | None = None


class ExecutionItem(msgspec.Struct, rename="camel", kw_only=True):
    """An execution as lists tell it: without what each attempt and each cell did."""

    execution_id: str
    notebook_id: str
    notebook_version: str
    kernel_type: str
    status: str
    phase: str | None = None
    queue: QueueDocument | None = None
    start_time: str
    end_time: str | None = None
    total_duration: str | None = None
    estimated_duration: str | None = None
    current_cell: str | None = None
    progress: ProgressDocument
    parameters: dict[str, Any]
    cell_range: CellRange | None = None
    outputs: OutputsDocument
    resources: ResourcesDocument
    attempts: int
    requested_by: str
    tags: list[str] | None = None
    cause: Cause = msgspec.field(default_factory=lambda: Cause(kind="request"))
    priority: str
    timeout: float
    cell_timeout: float | None = None
    continue_on_error: bool
    retry_policy: RetryPolicy | None = None
    cancel_requested: bool
    termination_code: str | None = None
    termination_category: str | None = None
    error: ErrorDocument | None = None
    environment: RunEnvironmentDocument | None = None
    run_warnings: list[str] = []
    duration_warning: DurationWarningDocument | None = None
    metrics: dict[str, float] | None = None
    repetitions: list[RepetitionDocument] | None = None


class ExecutionListDocument(Answered, rename="camel", kw_only=True):
    """A page of a notebook's executions, newest first; without what each cell did."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    executions: list[ExecutionItem]


class GivenDataset(msgspec.Struct, rename="camel", kw_only=True):
    """A version of a dataset that a run is given, or is to be given."""

    dataset_id: str
    version: int


class NewExecution(Answered, rename="camel", kw_only=True):
    """The execution, and what is to be said of the request that has made it."""

    execution_id: str
    notebook_id: str
    notebook_version: str
    kernel_type: str
    status: str
    phase: str | None = None
    queue: QueueDocument | None = None
    start_time: str
    end_time: str | None = None
    total_duration: str | None = None
    estimated_duration: str | None = None
    current_cell: str | None = None
    progress: ProgressDocument
    parameters: dict[str, Any]
    cell_range: CellRange | None = None
    cell_results: list[CellResultDocument]
    outputs: OutputsDocument
    resources: ResourcesDocument
    attempts: int
    attempt_history: list[AttemptDocument]
    requested_by: str
    tags: list[str] | None = None
    cause: Cause = msgspec.field(default_factory=lambda: Cause(kind="request"))
    priority: str
    timeout: float
    cell_timeout: float | None = None
    continue_on_error: bool
    retry_policy: RetryPolicy | None = None
    cancel_requested: bool
    termination_code: str | None = None
    termination_category: str | None = None
    error: ErrorDocument | None = None
    environment: RunEnvironmentDocument | None = None
    run_warnings: list[str] = []
    duration_warning: DurationWarningDocument | None = None
    metrics: dict[str, float] | None = None
    repetitions: list[RepetitionDocument] | None = None
    warnings: list[str]


class PlannedCellDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A cell that would be run; only code cells go to the kernel."""

    cell_id: str
    cell_type: str


class ProjectExecutions(Answered, rename="camel", kw_only=True):
    """A part of the project's executions, without what each cell did.

    `next` is the `cursor` of the page after it, and null where there is none.
    """

    executions: list[ExecutionItem]
    next: str | None


class RunPlanDocument(Answered, rename="camel", kw_only=True):
    """What would run now, as it was asked for; `kernel.offered` is false while nothing runs it.

    `cause` is there where it would repeat an execution, `datasets` where it would be given those
    versions and no newer ones.
    """

    dry_run: bool = True
    notebook_id: str
    notebook_version: str
    kernel: Session
    cell_range: CellRange | None = None
    cells: list[PlannedCellDocument]
    parameters: dict[str, Any]
    tags: list[str]
    cause: Cause | None = None
    datasets: list[GivenDataset] | None = None
    priority: str
    timeout: float
    cell_timeout: float | None = None
    continue_on_error: bool
    warnings: list[str]
