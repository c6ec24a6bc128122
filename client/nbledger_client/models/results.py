"""Types of the API: results. Made by `make client-models`."""

from typing import Any

import msgspec

from nbledger_client.answers import Answered


class Alternative(msgspec.Struct, rename="camel", kw_only=True):
    """The same output in another form."""

    content_type: str
    size: int
    digest: str
    download_url: str


class CellResult(msgspec.Struct, rename="camel", kw_only=True):
    """A code cell, and how much it has put out.

    `outputCount` and `outputBytes` are of all that it put out, `keptBytes` of what is kept; where
    these are less because a limit was reached, `truncated` is true; likewise where output may have
    been lost on its way from the kernel. `digest` is over all that came of the finished cell, kept
    or not.
    """

    cell_id: str
    status: str
    execution_count: int | None
    output_count: int
    output_bytes: int
    kept_bytes: int
    truncated: bool
    digest: str | None


class FurtherFile(msgspec.Struct, rename="camel", kw_only=True):
    """The same result in another format; `role` says which, such as skops or onnx."""

    role: str
    file_name: str
    content_type: str
    size: int
    digest: str
    download_url: str


class Lineage(msgspec.Struct, rename="camel", kw_only=True):
    """Where a dataset comes from: which version of which dataset the run enriched, if any."""

    source_dataset_id: str | None
    source_version: int | None
    notebook_id: str
    notebook_version: str
    execution_id: str


class ResultColumn(msgspec.Struct, rename="camel", kw_only=True):
    """A column of a dataset."""

    name: str
    type: str


class DatasetResult(msgspec.Struct, rename="camel", kw_only=True):
    """A dataset that the run enriched.

    `newColumns` are those that the bound version has not. `datasetId` and `version` name the
    dataset that is kept of it; null where none is.
    """

    content_type: str
    size: int
    digest: str
    download_url: str
    name: str
    record_count: int | None
    new_columns: list[str]
    format: str
    columns: list[ResultColumn]
    dataset_id: str | None
    version: int | None
    lineage: Lineage
    alternatives: list[FurtherFile]


class Dimensions(msgspec.Struct, rename="camel", kw_only=True):
    """The size of a picture in pixels."""

    width: int
    height: int


class FileResult(msgspec.Struct, rename="camel", kw_only=True):
    """Another file that the run left; `path` is where it lay in its folder of outputs."""

    content_type: str
    size: int
    digest: str
    download_url: str
    name: str
    path: str | None
    alternatives: list[FurtherFile]


class ModelResult(msgspec.Struct, rename="camel", kw_only=True):
    """A model that the run trained.

    What is told of it was recorded in the kernel; the service never loads a model.
    """

    content_type: str
    size: int
    digest: str
    download_url: str
    name: str
    model_type: str | None
    accuracy: float | None
    features: list[str]
    target: str | None
    metrics: dict[str, float | None]
    libraries: dict[str, str]
    alternatives: list[FurtherFile]


class OutputResult(msgspec.Struct, rename="camel", kw_only=True):
    """One output.

    `kind` is what it shows, whatever `outputType` it came as. `rows` and `columns` are told of
    tables, `dimensions` of pictures and charts, where they can be told. `content` is told in
    detailed results, where it is text or JSON; `contentOmitted` says that it is too large for
    that. `digest` is the SHA-256 of its bytes.
    """

    cell_id: str
    output_type: str
    content_type: str
    kind: str
    title: str
    stream: str | None = None
    content: Any | None = None
    content_omitted: bool = False
    rows: int | None = None
    columns: int | None = None
    dimensions: Dimensions | None = None
    size: int
    digest: str
    download_url: str
    alternatives: list[Alternative] = []


class ReportResult(msgspec.Struct, rename="camel", kw_only=True):
    """A report of the run."""

    content_type: str
    size: int
    digest: str
    download_url: str
    name: str
    format: str
    title: str
    alternatives: list[FurtherFile]


class ExecutionResults(Answered, rename="camel", kw_only=True):
    """What an execution has produced so far, or in the end.

    `outputs` are one page of `totalCount`. `metrics` are figures that the notebook told by name.
    `runWarnings` say what about the run is not as was asked for.
    """

    execution_id: str
    notebook_id: str
    notebook_version: str
    status: str
    cells: list[CellResult]
    outputs: list[OutputResult]
    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    enriched_datasets: list[DatasetResult]
    models: list[ModelResult]
    reports: list[ReportResult]
    files: list[FileResult]
    metrics: dict[str, float]
    run_warnings: list[str]
