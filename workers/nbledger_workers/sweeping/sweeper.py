"""The sweeper: sweeps, one process at a time, and looks for commands that nobody got."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog

from nbledger_application.reactions.sweep import Sweep
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Settings
from nbledger_workers.sweeping.lost_commands import LostCommands

log = structlog.get_logger(__name__)

# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_737765
_LOCK_SECONDS: Final = 60
_LAST_LOOK_SECONDS: Final = 1.0


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Sweep until ``stop`` is set; ``on_ready`` is called after the first sweep.

    Any number of processes may run this: one at a time sweeps. Raises
    ``DatabaseUnavailableError`` when the database is away at the start.
    """
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            settings.postgres.dsn, max_size=6, application_name="nbledger-sweeper"
        )
        stack.push_async_callback(close_pool, pool)
        store = EventStore(pool)
        await store.start()
        stack.push_async_callback(store.close)
        sweeper = _Sweeper(settings, pool, store)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(LostCommands(settings, pool).look_until(stop))
            await sweeper.sweep_until(stop, on_ready)
            # What it is publishing it should note as published; it may be waiting for the broker.
            await asyncio.wait({looking}, timeout=_LAST_LOOK_SECONDS)
            looking.cancel()


class _Sweeper:
    def __init__(self, settings: Settings, pool: Pool, store: EventStore) -> None:
        self._settings = settings
        self._pool = pool
        self._sweep = Sweep(settings, pool, store)

    async def sweep_until(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        # Beside the sweeps: one may take long, as when the broker is away. Neither goes on alone.
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._sweep.watch.run(), name="lease watch")
            await self._sweep_until(stop, on_ready)
            watching.cancel()

    async def _sweep_until(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        ready = away = False
        while not stop.is_set():
            try:
                await self._sweep_alone()
                if not ready:
                    ready = True
                    on_ready()
                if away:
                    away = False
                    log.info("sweeping goes on")
            except (DatabaseUnavailableError, *UNAVAILABLE) as error:
                if not away:
                    away = True
                    log.warning("sweep failed", error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.recovery.sweep_seconds):
                    await stop.wait()

    async def _sweep_alone(self) -> None:
        async with acquire(self._pool) as connection, connection.transaction():
            if await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                # A sweeper that is stopped gives the lock up to another one.
                await connection.execute(
                    f"SET LOCAL idle_in_transaction_session_timeout = '{_LOCK_SECONDS}s'"
                )
                await self._sweep.once()
