"""Types of the API: provenance. Made by `make client-models`."""

from typing import Any

import msgspec

from nbledger_client.answers import Answered
from nbledger_client.models.common import Cause, RetryPolicy


class Representation(msgspec.Struct, rename="camel", kw_only=True):
    """One form of an output: its media type, and its bytes by SHA-256 and size."""

    content_type: str
    digest: str
    size: int


class ArtifactFacts(msgspec.Struct, rename="camel", kw_only=True):
    """A file that the run produced; of a dataset also the version that it became."""

    kind: str
    name: str
    file_name: str
    cell_id: str | None
    content: Representation
    dataset_id: str | None
    dataset_version: int | None


class AttemptFacts(msgspec.Struct, rename="camel", kw_only=True):
    """An attempt of a worker: `outcome` is the code that it ended with, null while it goes on."""

    attempt: int
    worker_id: str
    start_time: str
    end_time: str | None
    outcome: str | None


class OutputFacts(msgspec.Struct, rename="camel", kw_only=True):
    """An output of a cell, by its forms."""

    output_type: str
    representations: list[Representation]


class CellFacts(msgspec.Struct, rename="camel", kw_only=True):
    """A cell that the run covered, and what it did in the last attempt.

    `status` is null for a cell that is not code.
    """

    cell_id: str
    cell_type: str
    status: str | None
    start_time: str | None
    end_time: str | None
    execution_count: int | None
    error: str | None
    outputs_digest: str | None
    outputs: list[OutputFacts]


class DatasetFacts(msgspec.Struct, rename="camel", kw_only=True):
    """A dataset that the run was given, in this version.

    `name`, `content` and `rows` are null where the dataset was deleted since.
    """

    dataset_id: str
    version: int | None
    name: str | None
    content: Representation | None
    rows: int | None


class EnvironmentFacts(msgspec.Struct, rename="camel", kw_only=True):
    """What could be imported.

    `packages` and `custom_libraries` are those that the notebook asks for, `provided` those that
    were added beside the kernel's own, as `name==version`. `resolved` is the list of all that the
    kernel could import, as text of such lines, kept with the run's outputs.
    """

    packages: list[str]
    custom_libraries: list[str]
    provided: list[str] | None
    resolved: Representation | None


class ExecutedKernel(msgspec.Struct, rename="camel", kw_only=True):
    """The kernel that the last attempt's cells ran on."""

    kernel_type: str
    kernelspec: str | None
    implementation: str | None
    implementation_version: str | None
    language: str | None
    language_version: str | None


class InputFacts(msgspec.Struct, rename="camel", kw_only=True):
    """An input file beside the notebook, as the run got it."""

    path: str
    content: Representation


class LogFacts(msgspec.Struct, rename="camel", kw_only=True):
    """Where the run is in the tenant's log: the numbers of the entries of two of its events.

    `requested` is that of its first event and `last` that of its last one, whose chain value
    covers all events of the run; null what no checkpoint covers yet. `size` is that of the newest
    checkpoint.
    """

    origin: str
    size: int
    requested: int | None
    last: int | None


class UploadedFile(msgspec.Struct, rename="camel", kw_only=True):
    """The file that a notebook was uploaded as.

    `digest` is the SHA-256 of its bytes, under which the artifact store keeps it; `size` is in
    bytes; `nbformat` is the version found, such as `4.2`.
    """

    file_name: str
    digest: str
    size: int
    nbformat: str


class NotebookFacts(msgspec.Struct, rename="camel", kw_only=True):
    """The notebook as the run executed it.

    `stream_version` is the event of the notebook's stream that the run is pinned to. `digest` is
    the SHA-256 over its cells (see `notebook_digest`). `uploaded` is the file that it came from,
    if it came from one.
    """

    notebook_id: str
    name: str
    description: str
    version: str
    stream_version: int
    digest: str
    uploaded: UploadedFile | None


class OutputOptions(msgspec.Struct, rename="camel", kw_only=True):
    """What is kept of a run. `report_code` says whether its report shows the cells' code."""

    capture_outputs: bool = True
    save_intermediate_results: bool = True
    generate_report: bool = False
    report_code: str | None = None


class RepeatedRun(msgspec.Struct, rename="camel", kw_only=True):
    """An earlier run that led to this one, by a rerun or repair; `cause` is why there was it."""

    execution_id: str
    requested_by: str
    requested_at: str
    cause: Cause


class Resources(msgspec.Struct, rename="camel", kw_only=True):
    """What a run used, children included; memory is the peak."""

    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    disk_bytes: int | None = None


class RunOptions(msgspec.Struct, rename="camel", kw_only=True):
    """How to run. `timeout` bounds the run, `cell_timeout` each cell; both in seconds.

    Without a `retry_policy` a run whose cells have begun never begins anew.
    """

    timeout: float
    cell_timeout: float | None = None
    priority: str = "Normal"
    continue_on_error: bool = False
    output_options: OutputOptions = msgspec.field(
        default_factory=lambda: OutputOptions(
            capture_outputs=True, save_intermediate_results=True, generate_report=False
        )
    )
    retry_policy: RetryPolicy | None = None


class Provenance(Answered, rename="camel", kw_only=True):
    """How the result of a run came about, from its events; `requested_by_id` is who asked for it.

    `first_position` and `last_position` are those of its first and last event in the store, and
    `events` is how many there are. `causes` are the earlier runs that led to it, the latest first.
    `log` is null where no sealer is at work, or for who may not read histories.
    """

    execution_id: str
    tenant_id: str
    project_id: str
    requested_by: str
    requested_by_id: str
    requested_at: str
    start_time: str | None
    end_time: str | None
    status: str
    termination_code: str | None
    cause: Cause
    causes: list[RepeatedRun]
    notebook: NotebookFacts
    parameters: dict[str, Any]
    options: RunOptions
    tags: list[str]
    kernel: ExecutedKernel
    environment: EnvironmentFacts
    datasets: list[DatasetFacts]
    input_files: list[InputFacts]
    attempts: list[AttemptFacts]
    cells: list[CellFacts]
    artifacts: list[ArtifactFacts]
    metrics: dict[str, float]
    resources: Resources
    warnings: list[str]
    first_position: int
    last_position: int
    events: int
    log: LogFacts | None = None
