"""Types of the API: data. Made by `make client-models`."""

import msgspec

from nbledger_client.answers import Answered


class Column(msgspec.Struct, rename="camel", kw_only=True):
    """A column of a dataset."""

    name: str
    type: str


class CsvParsing(msgspec.Struct, rename="camel", kw_only=True):
    """How an uploaded CSV file was found to be written; `compression` is there where it is gzip."""

    encoding: str
    delimiter: str
    compression: str | None = None


class LineageDocument(msgspec.Struct, rename="camel", kw_only=True):
    """Where a version came from: a file, or an execution of a notebook.

    An execution may have said which dataset version it enriched.
    """

    kind: str
    file_name: str | None = None
    execution_id: str | None = None
    notebook_id: str | None = None
    notebook_version: str | None = None
    source_dataset_id: str | None = None
    source_version: int | None = None


class VersionDocument(msgspec.Struct, rename="camel", kw_only=True):
    """One version of a dataset; `size` in bytes and `digest` are of its Parquet file.

    `created_by` is who uploaded it, or asked for the execution that made it. `columns` is there
    where they differ from those of the version after it.
    """

    version: int
    row_count: int
    size: int
    digest: str
    lineage: LineageDocument
    date_created: str
    created_by: str
    columns: list[Column] | None = None


class ChangedDataset(Answered, rename="camel", kw_only=True):
    """The whole dataset, how the file was read, and which fields of the form were ignored."""

    dataset_id: str
    project_id: str
    dataset_name: str
    version: int
    row_count: int
    columns: list[Column]
    versions: list[VersionDocument]
    date_created: str
    date_modified: str
    created_by: str
    parsing: CsvParsing
    warnings: list[str]


class DatasetDocument(Answered, rename="camel", kw_only=True):
    """The body that `GET …/dataset/{datasetId}` answers with.

    `columns` and `rowCount` are those of the newest version, whose number is how many there are;
    `versions` has the newest hundred of them, the newest first.
    """

    dataset_id: str
    project_id: str
    dataset_name: str
    version: int
    row_count: int
    columns: list[Column]
    versions: list[VersionDocument]
    date_created: str
    date_modified: str
    created_by: str


class DatasetItemDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A dataset in a list; rows and columns are those of its newest version."""

    dataset_id: str
    dataset_name: str
    version: int
    row_count: int
    column_count: int
    size: int
    date_created: str
    date_modified: str


class DatasetList(Answered, rename="camel", kw_only=True):
    """A page of the project's datasets, newest first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    datasets: list[DatasetItemDocument]


class LibraryDocument(Answered, rename="camel", kw_only=True):
    """The body that `GET …/library/{libraryId}` answers with.

    `name` is normalised; `size` in bytes and `digest` (SHA-256) are of the wheel; `requiresPython`
    and `dependencies` are what it says of itself.
    """

    library_id: str
    project_id: str
    name: str
    version: str
    file_name: str
    size: int
    digest: str
    requires_python: str | None
    dependencies: list[str]
    uploaded_at: str
    uploaded_by: str


class LibraryItemDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A library in a list."""

    library_id: str
    name: str
    version: str
    file_name: str
    size: int
    uploaded_at: str


class LibraryList(Answered, rename="camel", kw_only=True):
    """A page of the project's libraries, newest upload first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    libraries: list[LibraryItemDocument]
