"""The event store on PostgreSQL."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError, acquire
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_infrastructure.postgres.event_store.group_commit import Append, GroupCommit
from nbledger_infrastructure.postgres.event_store.types import (
    COLUMNS,
    AppendResult,
    IdempotencyKey,
    Metadata,
    NewEvent,
    QueueChange,
    RecordedEvent,
    StoreUnavailableError,
    Stream,
    recorded_event,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from nbledger_infrastructure.postgres.database import Pool, PooledConnection

_encode_metadata = msgspec.json.Encoder().encode

_SELECT = f"SELECT {COLUMNS} FROM event "  # noqa: S608  field names of a struct
_READ_STREAM = _SELECT + "WHERE stream_id = $1 AND version > $2 ORDER BY version LIMIT $3"
_READ_STREAM_THEN = (
    _SELECT
    + """
WHERE stream_id = $1 AND version > $2 AND position <= $4 ORDER BY version LIMIT $3
"""
)
_READ_STREAMS = _SELECT + "WHERE stream_id = ANY($1) ORDER BY stream_id, version"
_READ_SUBJECT = _SELECT + "WHERE subject_id = $1 AND position > $2 ORDER BY position"
_FIRST_SALT = """
SELECT salt, data IS NULL AS data_is_erased FROM event WHERE stream_id = $1 AND version = 1
"""
# As many as asked for, but no further than the one that passes 16 MiB as stored: an event may
# hold a whole notebook.
READ_ALL = f"""
SELECT {COLUMNS} FROM (
    SELECT *, sum(pg_column_size(data)) OVER (
        ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM (SELECT * FROM event WHERE position > $1 ORDER BY position LIMIT $2) AS next
) AS measured
WHERE coalesce(bytes_before, 0) <= 16777216 ORDER BY position
"""  # noqa: S608  field names of a struct


class EventStore:
    """Appends events to streams and reads them back.

    Positions are gapless over all streams and rise in commit order, over all processes; versions
    are gapless in each stream. While open, the store keeps one connection of the pool for itself,
    so close it before the pool. Any method may raise `StoreUnavailableError`.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._commits = GroupCommit(pool)

    async def start(self) -> None:
        """Accept appends from now on."""
        self._commits.start()

    async def close(self) -> None:
        """Write the appends accepted so far, and refuse any more."""
        await self._commits.close()

    async def append(
        self,
        stream: Stream,
        events: Sequence[NewEvent],
        *,
        expected_version: int,
        metadata: Metadata,
        subject_unchanged_since: int | None = None,
        queue: QueueChange | None = None,
        key: IdempotencyKey | None = None,
    ) -> AppendResult:
        """Append all of `events`, or none, to a stream at `expected_version` (0: a new stream).

        When this returns, the events are durable. With `subject_unchanged_since`, no stream of
        the subject may have an event after that position. `queue` and `key` are written in the
        same transaction.

        A caller that is cancelled while its append waits takes it back; one that is cancelled
        later does not know the outcome.

        Raises `RecordConflictError` when the stream (or subject) has moved on,
        `DuplicateEventError` when an event id is in the store already, `KeyUsedError` when `key`
        is, `LimitReachedError` when `queue` comes to a limit, `InvalidEventError` when the database
        cannot store an event, and
        `StoreUnavailableError`.
        """
        if not events:
            raise ValueError("an append needs an event")
        if expected_version < 0:
            raise ValueError("a version is never negative")
        return await self._commits.submit(
            Append(
                stream,
                events,
                expected_version,
                _encode_metadata(metadata).decode(),
                subject_unchanged_since,
                queue=queue,
                key=key,
            )
        )

    async def read_stream(
        self,
        stream_id: UUID,
        *,
        after_version: int = 0,
        limit: int | None = None,
        up_to_position: int | None = None,
    ) -> list[RecordedEvent]:
        """Read a stream in order, from the version after `after_version`."""
        bounds = (stream_id, after_version, limit)
        async with self.reading() as connection:
            if up_to_position is None:
                rows = await connection.fetch(_READ_STREAM, *bounds)
            else:
                rows = await connection.fetch(_READ_STREAM_THEN, *bounds, up_to_position)
        return [recorded_event(row) for row in rows]

    async def read_streams(self, stream_ids: Sequence[UUID]) -> dict[UUID, list[RecordedEvent]]:
        """Read several streams, each in order; those without an event are left out."""
        if not stream_ids:
            return {}
        async with self.reading() as connection:
            rows = await connection.fetch(_READ_STREAMS, stream_ids)
        histories: dict[UUID, list[RecordedEvent]] = {}
        for recorded in map(recorded_event, rows):
            histories.setdefault(recorded.stream_id, []).append(recorded)
        return histories

    async def first_salt(self, stream_id: UUID) -> bytes | None:
        """The salt of the first event of a stream: random bytes that are erased with its data.

        Empty for an event of before there was salt, `None` where it is erased or there is none.
        """
        async with self.reading() as connection:
            row = await connection.fetchrow(_FIRST_SALT, stream_id)
        if row is None or row["data_is_erased"]:
            return None
        salt: bytes | None = row["salt"]
        return salt or b""

    async def read_subject(
        self, subject_id: UUID, *, after_position: int = 0
    ) -> list[RecordedEvent]:
        """Read all events that concern a subject, over all its streams, by position."""
        async with self.reading() as connection:
            rows = await connection.fetch(_READ_SUBJECT, subject_id, after_position)
        return [recorded_event(row) for row in rows]

    async def read_all(self, *, after_position: int, limit: int) -> list[RecordedEvent]:
        """Read the next events of all streams, by position.

        At most `limit`, and fewer when they are large: 16 MiB as stored are enough for a call.
        None at all means that there are no more.
        """
        async with self.reading() as connection:
            rows = await connection.fetch(READ_ALL, after_position, limit)
        return [recorded_event(row) for row in rows]

    async def head_position(self) -> int:
        """Return the position of the last event, 0 when there is none."""
        async with self.reading() as connection:
            return await moments.head(connection)

    async def erase_subject(self, subject_id: UUID) -> int:
        """Erase data and salt of every event of the subject; return how many had any.

        What remains (types, versions, times, metadata, digest, chain) still verifies, and without
        the salt it confirms no guess at the data. The old bytes leave the database files when
        PostgreSQL vacuums, and backups when those expire.
        """
        async with self.reading() as connection:
            erased: int = await connection.fetchval("SELECT erase_subject($1)", subject_id)
        return erased

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[PooledConnection]:
        """Lend a connection for statements on the events, all of whose failures are the store's."""
        try:
            async with acquire(self._pool) as connection:
                yield connection
        except (DatabaseUnavailableError, *UNAVAILABLE) as error:
            raise StoreUnavailableError("the event store cannot be reached") from error
