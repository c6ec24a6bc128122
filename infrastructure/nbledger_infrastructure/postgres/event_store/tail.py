"""Following the store: batches of events as they are committed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar

import asyncpg
import structlog

from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.postgres.database import CONNECT_TIMEOUT, UNAVAILABLE, give_back_broken
from nbledger_infrastructure.postgres.event_store.store import READ_ALL
from nbledger_infrastructure.postgres.event_store.types import (
    Change,
    RecordedEvent,
    change,
    recorded_event,
)
from nbledger_infrastructure.postgres.pulse import NoPulseError, guarded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from nbledger_infrastructure.postgres.database import Pool, PooledConnection

T = TypeVar("T", RecordedEvent, Change)

log = structlog.get_logger(__name__)

POLL_INTERVAL = 1.0
"""Seconds after which a tail looks for events though nothing told it to."""
READ_TIMEOUT = 15.0

# In the order that `change` takes them.
_READ_CHANGES = """
SELECT position, stream_id, version, type, tenant_id, project_id FROM event
WHERE position > $1 ORDER BY position LIMIT $2
"""


class _Tail(Generic[T]):
    """Reads what comes after a position, batch by batch, and waits when there is nothing.

    Holds one connection of the pool from the first batch to `close`, listening and reading on
    it; a lost connection is replaced without the caller noticing. One task at a time may use it.

    A batch counts as read when it is returned: `after_position` then is the position of its last
    event. A caller that failed to handle a batch sets `after_position` back, or makes a new tail.

    When events come after there were none, it waits `gather_seconds` for more before it reads.
    """

    def __init__(
        self,
        pool: Pool,
        query: str,
        convert: Callable[[asyncpg.Record], T],
        after_position: int,
        batch_size: int,
        *,
        gather_seconds: float = 0.0,
    ) -> None:
        self.after_position = after_position
        self._pool = pool
        self._query = query
        self._convert: Callable[[asyncpg.Record], T] = convert
        self._batch_size = batch_size
        self._gather_seconds = gather_seconds
        self._notified = asyncio.Event()
        self._connection: PooledConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def next_batch(self) -> list[T]:
        """Return what comes next in order, at least one; wait for it as long as it takes."""
        backoff = Backoff(0.05, 1.0)
        while True:
            try:
                # Cleared before reading: what commits after the read sets it again.
                self._notified.clear()
                async with guarded(self._pool):
                    events = await self._read()
            except (NoPulseError, *UNAVAILABLE) as error:
                if not backoff.failures:
                    log.warning("event tail interrupted", error=type(error).__name__)
                await self._abandon()
                await backoff.wait()
                continue
            if backoff.failures:
                log.info("event tail resumed", attempts=backoff.failures)
                backoff.reset()
            if events:
                self.after_position = events[-1].position
                return events
            try:
                async with asyncio.timeout(POLL_INTERVAL):
                    await self._notified.wait()
            except TimeoutError:
                continue
            if self._gather_seconds:
                await asyncio.sleep(self._gather_seconds)

    async def close(self) -> None:
        """Give the connection back. The tail may be used again afterwards."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            try:
                if not connection.is_closed():
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await connection.remove_listener("event", self._on_notify)
            finally:
                await self._pool.release(connection, timeout=CONNECT_TIMEOUT)
        except UNAVAILABLE as error:
            log.warning("event tail connection not released", error=type(error).__name__)

    async def _abandon(self) -> None:
        """Give back a connection that failed, without a word to a server that may not answer."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(asyncpg.InterfaceError):  # the pool has taken it back itself
            connection.terminate()
        await give_back_broken(self._pool, connection)

    async def _read(self) -> list[T]:
        if self._connection is None or self._connection.is_closed():
            await self.close()
            connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT)
            self._connection = connection
            # Listening begins before the first read, so nothing falls in between.
            await connection.add_listener("event", self._on_notify)
        rows = await self._connection.fetch(
            self._query, self.after_position, self._batch_size, timeout=READ_TIMEOUT
        )
        return [self._convert(row) for row in rows]

    def _on_notify(self, *_: object) -> None:
        self._notified.set()


class EventTail(_Tail[RecordedEvent]):
    """Follows all events, whole."""

    def __init__(
        self,
        pool: Pool,
        after_position: int = 0,
        batch_size: int = 500,
        *,
        gather_seconds: float = 0.0,
    ) -> None:
        super().__init__(
            pool,
            READ_ALL,
            recorded_event,
            after_position,
            batch_size,
            gather_seconds=gather_seconds,
        )


class ChangeTail(_Tail[Change]):
    """Follows which streams move: all events, without what is in them."""

    def __init__(self, pool: Pool, after_position: int = 0, batch_size: int = 2000) -> None:
        super().__init__(pool, _READ_CHANGES, change, after_position, batch_size)
