"""Read models with one JSON document for each stream: rows, fresh reads, lists."""

from collections.abc import Callable, Mapping
from datetime import datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import msgspec

from nbledger_domain.events import DomainEvent
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.machinery import quantities
from nbledger_projections.machinery.folding import Change, Fold
from nbledger_projections.machinery.fresh_reads import FreshRead
from nbledger_projections.machinery.past import PastRead
from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.machinery.snapshots import LEAST_BYTES, SnapshotTable

D = TypeVar("D")


class State(msgspec.Struct, Generic[D]):
    """A row."""

    stream_id: UUID
    tenant_id: UUID
    project_id: UUID
    created_position: int
    position: int
    version: int
    modified_at: datetime
    document: D


class KeptState(State[D], Generic[D]):
    """A row of which snapshots are kept."""

    until_snapshot: int = LEAST_BYTES


class View(msgspec.Struct, frozen=True):
    """The document of a stream as it is at this moment.

    ``document`` is the JSON body. ``position`` and ``version`` are those of its last event,
    ``modified_at`` is when that was recorded.
    """

    stream_id: UUID
    document: bytes
    position: int
    version: int
    modified_at: datetime


class Page(msgspec.Struct, frozen=True):
    """A page of the list, newest first, and what it was read from.

    ``items`` are JSON objects; ``total_count`` is over all pages; ``position`` is the checkpoint of
    the projection.
    """

    items: list[bytes]
    total_count: int
    position: int


class Documents(ReadModel[State[D]]):
    """The documents in table ``name``, folded from the events of one kind of aggregate.

    ``key`` is the column of their ids. Of the events ``created`` makes a document, by ``create``,
    ``deleted`` ends it if anything does, and ``changes`` alter it; ``item`` is what a list shows.
    With ``snapshots``, the name of their table, documents are read as of earlier positions, too.
    """

    def __init__(
        self,
        name: str,
        document: type[D],
        *,
        key: str,
        created: type[DomainEvent],
        create: Callable[[RecordedEvent, Any], D],
        changes: Mapping[str, Change[D]] = MappingProxyType({}),
        deleted: type[DomainEvent] | None,
        item: Callable[[D], Any],
        snapshots: str | None = None,
    ) -> None:
        row: type[State[D]]
        if snapshots is None:
            row = cast("type[State[D]]", State[document])  # type: ignore[valid-type]
        else:
            row = cast("type[State[D]]", KeptState[document])  # type: ignore[valid-type]
        made: type[State[D]] = State if snapshots is None else KeptState

        def state(recorded: RecordedEvent, event: Any) -> State[D]:
            return made(
                stream_id=recorded.stream_id,
                tenant_id=recorded.tenant_id,
                project_id=recorded.project_id,
                created_position=recorded.position,
                position=recorded.position,
                version=recorded.version,
                modified_at=recorded.recorded_at,
                document=create(recorded, event),
            )

        super().__init__(
            name,
            row,
            key=key,
            key_of=attrgetter("stream_id"),
            fold=Fold(
                created,
                state,
                changes={kind: _of_document(change) for kind, change in changes.items()},
                deleted=deleted,
                always=_note,
            ),
            computed={"item": ("json", lambda state: item(state.document))},
            snapshots=None if snapshots is None else SnapshotTable(snapshots, row, key=key),
        )
        self._get = FreshRead(
            self,
            f"""(
                SELECT {self.table.columns} FROM {name}
                WHERE {key} = $3 AND tenant_id = $1 AND project_id = $2
            )""",  # noqa: S608 (constants of this package)
            events=f"""
                e.stream_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
                AND e.version > coalesce(d.version, 0)
                AND e.type LIKE '{created.TYPE.partition(".")[0]}.%'
            """,
            order="version",
        )
        self._then = None if snapshots is None else PastRead(self, order="version")
        here = f"FROM {name} WHERE tenant_id = $1 AND project_id = $2"
        self._page = f"""
            SELECT
                (SELECT count(*) {here}) AS total,
                ARRAY(
                    SELECT item {here} ORDER BY created_position DESC OFFSET $3 LIMIT $4
                ) AS items,
                (SELECT position FROM projection_checkpoint WHERE name = $5) AS position
        """  # noqa: S608 (constants of this package)

    async def get(
        self, pool: Pool, tenant_id: UUID, project_id: UUID, stream_id: UUID
    ) -> View | None:
        """The document as of now; ``None`` when there is none in this tenant and project."""
        row = await self._get.get(pool, tenant_id, project_id, stream_id)
        if row is None:
            return None
        return View(
            stream_id=stream_id,
            document=row["document"].encode(),
            position=row["position"],
            version=row["version"],
            modified_at=row["modified_at"],
        )

    async def then(
        self, connection: PooledConnection, stream_id: UUID, moment: Moment
    ) -> View | None:
        """The document as it was, of a stream that is known to have existed."""
        assert self._then is not None  # noqa: S101 (asked of those that keep snapshots)
        row = await self._then.get(connection, stream_id, moment)
        if row is None:
            return None
        return View(
            stream_id=stream_id,
            document=quantities.encode(row.document),
            position=row.position,
            version=row.version,
            modified_at=row.modified_at,
        )

    async def page(
        self, pool: Pool, tenant_id: UUID, project_id: UUID, *, page: int, page_size: int
    ) -> Page:
        """A page (counted from 1) of the project's documents."""
        async with acquire(pool) as connection:
            row = await connection.fetchrow(
                self._page, tenant_id, project_id, (page - 1) * page_size, page_size, self.name
            )
        assert row is not None  # noqa: S101 (a SELECT without FROM gives one row)
        return Page(
            items=[each.encode() for each in row["items"]],
            total_count=row["total"],
            position=row["position"] or 0,
        )


def _of_document(change: Change[D]) -> Change[State[D]]:
    def changed(state: State[D], recorded: RecordedEvent, event: Any) -> None:
        change(state.document, recorded, event)

    return changed


def _note(state: State[Any], recorded: RecordedEvent) -> None:
    state.position = recorded.position
    state.version = recorded.version
    state.modified_at = recorded.recorded_at
