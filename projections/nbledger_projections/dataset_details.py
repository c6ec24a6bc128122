"""The dataset as the API shows it: one row each, folded from its events."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_infrastructure.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.event_store import RecordedEvent
from nbledger_infrastructure.repository import decode
from nbledger_projections import fresh
from nbledger_projections.decoding import check_known
from nbledger_projections.rows import Rows
from nbledger_projections.words import timestamp

NAME = "dataset_details"

CACHED_ROWS = 1_000
"""How many datasets a projector keeps in memory."""

MAX_VERSIONS = 100
"""Only the newest are listed: a dataset that runs write may have any number."""

CREATED = Dataset.Created.TYPE
DELETED = Dataset.Deleted.TYPE
_TELLING = {CREATED, DELETED, Dataset.VersionAdded.TYPE}


class LineageDocument(msgspec.Struct, rename="camel"):
    """Where a version came from: a file, or an execution of a notebook.

    An execution may have said which dataset version it enriched.
    """

    kind: str
    file_name: str | UnsetType = UNSET
    execution_id: UUID | UnsetType = UNSET
    notebook_id: UUID | UnsetType = UNSET
    notebook_version: str | UnsetType = UNSET
    from_dataset_id: UUID | UnsetType = UNSET
    from_version: int | UnsetType = UNSET


class VersionDocument(msgspec.Struct, rename="camel"):
    """One version of a dataset; ``size`` in bytes and ``digest`` are of its Parquet file.

    ``columns`` is there where they differ from those of the version after it.
    """

    version: int
    row_count: int
    size: int
    digest: str
    lineage: LineageDocument
    date_created: str
    created_by: str
    columns: list[Column] | UnsetType = UNSET


class ItemDocument(msgspec.Struct, rename="camel"):
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


class DatasetState(msgspec.Struct):
    """A row."""

    dataset_id: UUID
    tenant_id: UUID
    project_id: UUID
    created_position: int
    position: int
    version: int
    modified_at: datetime
    document: DatasetDocument


class DatasetView(msgspec.Struct, frozen=True):
    """A dataset as it is at this moment.

    ``document`` is the JSON body. ``position`` and ``version`` are those of its last event,
    ``modified_at`` is when that was recorded.
    """

    dataset_id: UUID
    document: bytes
    position: int
    version: int
    modified_at: datetime


class DatasetPage(msgspec.Struct, frozen=True):
    """A page of the list, newest first, and what it was read from.

    ``items`` are JSON objects; ``total_count`` is over all pages; ``position`` is the checkpoint of
    the projection.
    """

    items: list[bytes]
    total_count: int
    position: int


def fold(state: DatasetState | None, recorded: RecordedEvent) -> DatasetState | None:
    """The state after ``recorded``; ``None`` when there is no such dataset (any more).

    Takes ``state`` over: the caller must not use it afterwards. Raises
    :class:`UnknownEventTypeError`.
    """
    check_known(recorded)
    if recorded.type == DELETED:
        return None
    if recorded.data is None or recorded.type not in _TELLING:
        return state  # where it is erased, the deletion follows
    event = decode(recorded)
    if isinstance(event, Dataset.Created):
        state = _created(recorded, event)
    elif state is None:
        return None
    elif isinstance(event, Dataset.VersionAdded):
        _version_added(state.document, recorded, event)
    state.position = recorded.position
    state.version = recorded.version
    state.modified_at = recorded.recorded_at
    return state


def _created(recorded: RecordedEvent, event: Dataset.Created) -> DatasetState:
    at = timestamp(recorded.occurred_at)
    return DatasetState(
        dataset_id=recorded.stream_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        created_position=recorded.position,
        position=recorded.position,
        version=recorded.version,
        modified_at=recorded.recorded_at,
        document=DatasetDocument(
            dataset_id=recorded.stream_id,
            project_id=recorded.project_id,
            dataset_name=event.name,
            version=0,
            row_count=0,
            columns=[],
            versions=[],
            date_created=at,
            date_modified=at,
            created_by=recorded.metadata.actor,
        ),
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
        created_by=recorded.metadata.actor,
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
        from_dataset_id=told(source.from_dataset_id),
        from_version=told(source.from_version),
    )


def item(document: DatasetDocument) -> ItemDocument:
    """The dataset as a list shows it."""
    return ItemDocument(
        dataset_id=document.dataset_id,
        dataset_name=document.dataset_name,
        version=document.version,
        row_count=document.row_count,
        column_count=len(document.columns),
        size=document.versions[0].size if document.versions else 0,
        date_created=document.date_created,
        date_modified=document.date_modified,
    )


_document_decoder = msgspec.json.Decoder(DatasetDocument)
_encode = msgspec.json.Encoder().encode

_ROW = (
    "dataset_id, tenant_id, project_id, created_position, position, version, modified_at, document"
)

_LOAD = f"SELECT {_ROW} FROM dataset_details WHERE dataset_id = ANY($1)"  # noqa: S608 (constants)

_SAVE = f"""
INSERT INTO dataset_details ({_ROW}, item)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::integer[],
    $7::timestamptz[], $8::json[], $9::json[]
)
ON CONFLICT (dataset_id) DO UPDATE SET
    position = excluded.position, version = excluded.version,
    modified_at = excluded.modified_at, document = excluded.document, item = excluded.item
"""  # noqa: S608 (constants)

_DELETE = "DELETE FROM dataset_details WHERE dataset_id = ANY($1)"

_GET = fresh.query(
    _ROW,
    f"""(
        SELECT {_ROW} FROM dataset_details
        WHERE dataset_id = $3 AND tenant_id = $1 AND project_id = $2
    )""",  # noqa: S608 (constants)
    events=f"""
        e.stream_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
        AND e.version > coalesce(d.version, 0) AND e.type LIKE '{CREATED.partition(".")[0]}.%'
    """,
    order="version",
    deleted=DELETED,
)

_PAGE = """
SELECT
    (SELECT count(*) FROM dataset_details WHERE tenant_id = $1 AND project_id = $2) AS total,
    ARRAY(
        SELECT item FROM dataset_details WHERE tenant_id = $1 AND project_id = $2
        ORDER BY created_position DESC OFFSET $3 LIMIT $4
    ) AS items,
    (SELECT position FROM projection_checkpoint WHERE name = $5) AS position
"""


class DatasetDetailsProjection:
    """The projection that keeps table ``dataset_details``."""

    name: ClassVar[str] = NAME
    tables: ClassVar[tuple[str, ...]] = ("dataset_details",)

    def __init__(self) -> None:
        self._rows: Rows[DatasetState] = Rows(CACHED_ROWS)

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change into memory."""
        telling = [recorded for recorded in events if recorded.type in _TELLING]
        keys = self._rows.missing(recorded.stream_id for recorded in telling)
        found = await connection.fetch(_LOAD, keys) if keys else []
        self._rows.fill(keys, {row["dataset_id"]: _state(row) for row in found})

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type not in _TELLING:
            check_known(recorded)
            return
        before = self._rows.get(recorded.stream_id)
        after = fold(before, recorded)
        if after is not None or before is not None:
            self._rows.put(recorded.stream_id, after)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        written, deleted = self._rows.changes()
        if written:
            await connection.execute(_SAVE, *_columns(written))
        if deleted:
            await connection.execute(_DELETE, deleted)

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, dataset_id: UUID
) -> DatasetView | None:
    """The dataset as of now; ``None`` when there is none in this tenant and project."""
    async with acquire(pool) as connection:
        found = await connection.fetch(_GET, tenant_id, project_id, dataset_id)
    row, news = fresh.split(_ROW, found)
    if row is not None and not news:
        return DatasetView(
            dataset_id=row["dataset_id"],
            document=row["document"].encode(),
            position=row["position"],
            version=row["version"],
            modified_at=row["modified_at"],
        )
    state = None if row is None else _state(row)
    for recorded in news:
        state = fold(state, recorded)
    if state is None:
        return None
    return DatasetView(
        dataset_id=state.dataset_id,
        document=_encode(state.document),
        position=state.position,
        version=state.version,
        modified_at=state.modified_at,
    )


async def page(
    pool: Pool, tenant_id: UUID, project_id: UUID, *, page: int, page_size: int
) -> DatasetPage:
    """A page (counted from 1) of the project's datasets."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            _PAGE, tenant_id, project_id, (page - 1) * page_size, page_size, NAME
        )
    assert row is not None  # noqa: S101 (a SELECT without FROM gives one row)
    return DatasetPage(
        items=[each.encode() for each in row["items"]],
        total_count=row["total"],
        position=row["position"] or 0,
    )


def _state(row: asyncpg.Record) -> DatasetState:
    return DatasetState(
        dataset_id=row["dataset_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        created_position=row["created_position"],
        position=row["position"],
        version=row["version"],
        modified_at=row["modified_at"],
        document=_document_decoder.decode(row["document"]),
    )


def _columns(states: Sequence[DatasetState]) -> tuple[list[Any], ...]:
    """The states as the arrays that ``_SAVE`` takes."""
    return (
        [state.dataset_id for state in states],
        [state.tenant_id for state in states],
        [state.project_id for state in states],
        [state.created_position for state in states],
        [state.position for state in states],
        [state.version for state in states],
        [state.modified_at for state in states],
        [_encode(state.document).decode() for state in states],
        [_encode(item(state.document)).decode() for state in states],
    )
