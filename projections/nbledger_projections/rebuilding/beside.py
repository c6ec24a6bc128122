"""A projection that is built anew in tables of its own, by the very code that keeps those in use.

Its tables have the same names in another schema; only the search path differs.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.postgres.event_store.store import READ_ALL
from nbledger_infrastructure.postgres.event_store.types import recorded_event
from nbledger_projections.machinery.runner import project
from nbledger_projections.rebuilding import tables
from nbledger_projections.registry import READ_MODELS

BATCH_EVENTS: Final = 2000
BATCH_TIMEOUT: Final = 60.0
"""Seconds that reading a batch, or folding and writing it, may take."""
FINISH_TIMEOUT: Final = 3600.0
"""Seconds that making a table that is filled ready for use may take."""


class Beside:
    """One projection being built.

    ``position`` is that of the last event folded. ``until`` bounds it, where it is to be compared
    with what has come so far. ``failure`` is why it was given up.
    """

    def __init__(self, name: str, connection: PooledConnection, live: str) -> None:
        self.name, self.connection, self.live = name, connection, live
        self.projection = READ_MODELS[name].projection()
        self.schema = tables.schema_of(name)
        self.position = 0
        self.until: int | None = None
        self.failure: Exception | None = None

    async def fold(self, events: Sequence[RecordedEvent]) -> None:
        """Fold the next events, in a transaction if any of them changes rows."""
        if (until := self.until) is not None:
            events = [recorded for recorded in events if recorded.position <= until]
        if not events:
            return
        try:
            if any(recorded.type in self.projection.interests for recorded in events):
                async with asyncio.timeout(BATCH_TIMEOUT), self.connection.transaction():
                    await project(self.connection, self.projection, events)
            else:
                await project(self.connection, self.projection, events)
        except BaseException:
            self.projection.reset()
            raise
        self.projection.settle()
        self.position = events[-1].position

    async def follow(self, store: EventStore) -> None:
        """Fold what has come meanwhile, until less than a batch was left."""
        while True:
            async with asyncio.timeout(BATCH_TIMEOUT):
                events = await store.read_all(after_position=self.position, limit=BATCH_EVENTS)
            await self.fold(events)
            if len(events) < BATCH_EVENTS // 2 or self.position == self.until:
                return

    async def fold_here(self, *, until: int | None = None) -> int:
        """Fold all there is, within the transaction that is open; returns the position.

        The caller settles the projection and takes the position once that is committed, and
        otherwise resets it.
        """
        position = self.position
        while until is None or position < until:
            rows = await self.connection.fetch(READ_ALL, position, BATCH_EVENTS)
            events = [recorded_event(row) for row in rows]
            if until is not None:
                events = [recorded for recorded in events if recorded.position <= until]
            if not events:
                break
            await project(self.connection, self.projection, events)
            self.projection.settle()
            position = events[-1].position
        return position

    async def finish(self) -> None:
        """Make the tables ready for use."""
        for table in self.projection.tables:
            await tables.finish(self.connection, f"{self.schema}.{table}", timeout=FINISH_TIMEOUT)


@asynccontextmanager
async def beside(pool: Pool, name: str) -> AsyncIterator[Beside]:
    """Build projection ``name`` within the block; what was not put into use is dropped after it.

    Keeps one connection of the pool. Raises :class:`RebuildRunningError`.
    """
    async with acquire(pool) as connection, tables.alone(connection, name):
        live = await connection.fetchval("SELECT current_schema()")
        built = Beside(name, connection, live)
        await checkpoints.ensure(connection, name)
        # A builder that dies leaves the server at once, not after the statement it is at.
        await _set(connection, "client_connection_check_interval", "1s")
        await tables.make(connection, built.projection.tables, live, built.schema)
        try:
            # The batches need not be durable one by one: nothing is taken up after a crash.
            await _set(connection, "search_path", f'{built.schema}, "{live}"')
            await _set(connection, "synchronous_commit", "off")
            yield built
        finally:
            if not connection.is_closed():
                await tables.drop(connection, built.schema)


async def _set(connection: PooledConnection, setting: str, value: str) -> None:
    # Undone when the connection goes back to the pool.
    await connection.execute("SELECT set_config($1, $2, false)", setting, value)
