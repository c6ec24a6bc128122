"""Read models with one JSON document for each stream: rows, fresh reads, lists."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.events import DomainEvent
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery import fresh_reads as fresh
from nbledger_projections.machinery.decoding import check_known
from nbledger_projections.machinery.rows import Rows

D = TypeVar("D")

_encode = msgspec.json.Encoder().encode


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


class Documents(Generic[D]):
    """The documents in table ``name``, folded from the events of one kind of aggregate.

    ``key`` is the column of their ids. ``kind`` begins the types of their events, of which
    ``created`` makes a document, ``deleted`` ends it and ``changed`` alter it. ``create`` makes the
    document of the first event, ``change`` alters it; ``item`` is what a list shows of it.
    """

    def __init__(
        self,
        name: str,
        document: type[D],
        *,
        key: str,
        created: type[DomainEvent],
        changed: Sequence[type[DomainEvent]] = (),
        deleted: type[DomainEvent],
        create: Callable[[RecordedEvent, Any], D],
        change: Callable[[D, RecordedEvent, Any], None] | None = None,
        item: Callable[[D], Any],
    ) -> None:
        self.name = name
        self._created = created.TYPE
        self._deleted = deleted.TYPE
        self.telling = {each.TYPE for each in (created, deleted, *changed)}
        self._create = create
        self._change = change
        self._item = item
        self._decode = msgspec.json.Decoder(document).decode
        self._statements(key)

    def _statements(self, key: str) -> None:
        """All of constants of this package."""
        kind = self._created.partition(".")[0]
        row = (
            f"{key}, tenant_id, project_id, created_position, position, version, modified_at, "
            "document"
        )
        self._row = row
        self._load = f"SELECT {row} FROM {self.name} WHERE {key} = ANY($1)"  # noqa: S608
        self._save = f"""
            INSERT INTO {self.name} ({row}, item)
            SELECT * FROM unnest(
                $1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::integer[],
                $7::timestamptz[], $8::json[], $9::json[]
            )
            ON CONFLICT ({key}) DO UPDATE SET
                position = excluded.position, version = excluded.version,
                modified_at = excluded.modified_at, document = excluded.document,
                item = excluded.item
        """  # noqa: S608
        self._delete = f"DELETE FROM {self.name} WHERE {key} = ANY($1)"  # noqa: S608
        self._get = fresh.query(
            row,
            f"""(
                SELECT {row} FROM {self.name}
                WHERE {key} = $3 AND tenant_id = $1 AND project_id = $2
            )""",  # noqa: S608
            events=f"""
                e.stream_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
                AND e.version > coalesce(d.version, 0) AND e.type LIKE '{kind}.%'
            """,
            order="version",
            deleted=self._deleted,
        )
        here = f"FROM {self.name} WHERE tenant_id = $1 AND project_id = $2"
        self._page = f"""
            SELECT
                (SELECT count(*) {here}) AS total,
                ARRAY(
                    SELECT item {here} ORDER BY created_position DESC OFFSET $3 LIMIT $4
                ) AS items,
                (SELECT position FROM projection_checkpoint WHERE name = $5) AS position
        """  # noqa: S608

    def fold(self, state: State[D] | None, recorded: RecordedEvent) -> State[D] | None:
        """The state after ``recorded``; ``None`` when there is no such document (any more).

        Takes ``state`` over: the caller must not use it afterwards. Raises
        :class:`UnknownEventTypeError`.
        """
        check_known(recorded)
        if recorded.type == self._deleted:
            return None
        if recorded.data is None or recorded.type not in self.telling:
            return state  # where it is erased, the deletion follows
        event = decode(recorded)
        if recorded.type == self._created:
            return State(
                stream_id=recorded.stream_id,
                tenant_id=recorded.tenant_id,
                project_id=recorded.project_id,
                created_position=recorded.position,
                position=recorded.position,
                version=recorded.version,
                modified_at=recorded.recorded_at,
                document=self._create(recorded, event),
            )
        if state is None:
            return None
        if self._change is not None:
            self._change(state.document, recorded, event)
        state.position = recorded.position
        state.version = recorded.version
        state.modified_at = recorded.recorded_at
        return state

    async def get(
        self, pool: Pool, tenant_id: UUID, project_id: UUID, stream_id: UUID
    ) -> View | None:
        """The document as of now; ``None`` when there is none in this tenant and project."""
        async with acquire(pool) as connection:
            found = await connection.fetch(self._get, tenant_id, project_id, stream_id)
        row, news = fresh.split(self._row, found)
        if row is not None and not news:
            return View(
                stream_id=stream_id,
                document=row["document"].encode(),
                position=row["position"],
                version=row["version"],
                modified_at=row["modified_at"],
            )
        state = None if row is None else self._state(row)
        for recorded in news:
            state = self.fold(state, recorded)
        if state is None:
            return None
        return View(
            stream_id=stream_id,
            document=_encode(state.document),
            position=state.position,
            version=state.version,
            modified_at=state.modified_at,
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

    async def load(
        self, connection: PooledConnection, stream_ids: Sequence[UUID]
    ) -> dict[UUID, State[D]]:
        """The rows that are there of these."""
        found = await connection.fetch(self._load, stream_ids) if stream_ids else []
        return {row[0]: self._state(row) for row in found}

    async def save(
        self, connection: PooledConnection, written: Sequence[State[D]], deleted: Sequence[UUID]
    ) -> None:
        """Write rows, and remove others."""
        if written:
            await connection.execute(
                self._save,
                [state.stream_id for state in written],
                [state.tenant_id for state in written],
                [state.project_id for state in written],
                [state.created_position for state in written],
                [state.position for state in written],
                [state.version for state in written],
                [state.modified_at for state in written],
                [_encode(state.document).decode() for state in written],
                [_encode(self._item(state.document)).decode() for state in written],
            )
        if deleted:
            await connection.execute(self._delete, deleted)

    def _state(self, row: asyncpg.Record) -> State[D]:
        return State(
            stream_id=row[0],
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            created_position=row["created_position"],
            position=row["position"],
            version=row["version"],
            modified_at=row["modified_at"],
            document=self._decode(row["document"]),
        )


class DocumentsProjection:
    """The projection that keeps the table of :attr:`documents`, which a subclass names."""

    name: ClassVar[str]
    tables: ClassVar[tuple[str, ...]]
    documents: ClassVar[Documents[Any]]

    def __init__(self) -> None:
        self._rows: Rows[State[Any]] = Rows()

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change into memory."""
        telling = [recorded for recorded in events if recorded.type in self.documents.telling]
        keys = self._rows.missing(recorded.stream_id for recorded in telling)
        self._rows.fill(keys, await self.documents.load(connection, keys))

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type not in self.documents.telling:
            check_known(recorded)
            return
        before = self._rows.get(recorded.stream_id)
        after = self.documents.fold(before, recorded)
        if after is not None or before is not None:
            self._rows.put(recorded.stream_id, after)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        await self.documents.save(connection, *self._rows.changes())

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()
