"""The dataset as the API shows it: one row each, folded from its events."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.documents import Documents
from nbledger_projections.read_models.humanize import timestamp

NAME = "dataset_details"

MAX_VERSIONS = 100
"""Only the newest are listed: a dataset that runs write may have any number."""


class LineageDocument(msgspec.Struct, rename="camel"):
    """Where a version came from: a file, or an execution of a notebook.

    An execution may have said which dataset version it enriched.
    """

    kind: str
    file_name: str | UnsetType = UNSET
    execution_id: UUID | UnsetType = UNSET
    notebook_id: UUID | UnsetType = UNSET
    notebook_version: str | UnsetType = UNSET
    source_dataset_id: UUID | UnsetType = UNSET
    source_version: int | UnsetType = UNSET


class VersionDocument(msgspec.Struct, rename="camel"):
    """One version of a dataset; ``size`` in bytes and ``digest`` are of its Parquet file.

    ``created_by`` is who uploaded it, or asked for the execution that made it. ``columns`` is
    there where they differ from those of the version after it.
    """

    version: int
    row_count: int
    size: int
    digest: str
    lineage: LineageDocument
    date_created: str
    created_by: str
    columns: list[Column] | UnsetType = UNSET


class DatasetItemDocument(msgspec.Struct, rename="camel"):
    """A dataset in a list; rows and columns are those of its newest version."""

    dataset_id: UUID
    dataset_name: str
    version: int
    row_count: int
    column_count: int
    size: int
    date_created: str
    date_modified: str


class DatasetDocument(msgspec.Struct, rename="camel"):
    """The body that ``GET …/dataset/{datasetId}`` answers with.

    ``columns`` and ``rowCount`` are those of the newest version, whose number is how many there
    are; ``versions`` has the newest hundred of them, the newest first.
    """

    dataset_id: UUID
    project_id: UUID
    dataset_name: str
    version: int
    row_count: int
    columns: list[Column]
    versions: list[VersionDocument]
    date_created: str
    date_modified: str
    created_by: str


def _created(recorded: RecordedEvent, event: Dataset.Created) -> DatasetDocument:
    at = timestamp(recorded.occurred_at)
    return DatasetDocument(
        dataset_id=recorded.stream_id,
        project_id=recorded.project_id,
        dataset_name=event.name,
        version=0,
        row_count=0,
        columns=[],
        versions=[],
        date_created=at,
        date_modified=at,
        created_by=recorded.metadata.responsible,
    )


def _version_added(
    document: DatasetDocument, recorded: RecordedEvent, event: Dataset.VersionAdded
) -> None:
    at = timestamp(recorded.occurred_at)
    if document.versions and document.columns != event.columns:
        document.versions[0].columns = document.columns
    document.version = event.dataset_version
    document.row_count = event.rows
    document.columns = event.columns
    document.date_modified = at
    added = VersionDocument(
        version=event.dataset_version,
        row_count=event.rows,
        size=event.content.size,
        digest=event.content.digest,
        lineage=_lineage(event.source),
        date_created=at,
        created_by=recorded.metadata.responsible,
    )
    document.versions.insert(0, added)
    del document.versions[MAX_VERSIONS:]


def _lineage(source: Source) -> LineageDocument:
    def told(value: Any) -> Any:
        return UNSET if value is None else value

    return LineageDocument(
        kind=source.kind,
        file_name=told(source.file_name),
        execution_id=told(source.execution_id),
        notebook_id=told(source.notebook_id),
        notebook_version=told(source.notebook_version),
        source_dataset_id=told(source.from_dataset_id),
        source_version=told(source.from_version),
    )


def item(document: DatasetDocument) -> DatasetItemDocument:
    """The dataset as a list shows it."""
    return DatasetItemDocument(
        dataset_id=document.dataset_id,
        dataset_name=document.dataset_name,
        version=document.version,
        row_count=document.row_count,
        column_count=len(document.columns),
        size=document.versions[0].size if document.versions else 0,
        date_created=document.date_created,
        date_modified=document.date_modified,
    )


MODEL = Documents(
    NAME,
    DatasetDocument,
    key="dataset_id",
    created=Dataset.Created,
    create=_created,
    changes={Dataset.VersionAdded.TYPE: _version_added},
    deleted=Dataset.Deleted,
    item=item,
    snapshots="dataset_snapshot",
)
get = MODEL.get
then = MODEL.then
page = MODEL.page
