"""Running the scheduler: one process at a time fires, the others stand by."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog

from nbledger_application.schedules.scheduler import Clock, Scheduler, database_time
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.postgres.checkpoints import CheckpointMovedError
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    PooledConnection,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 0.5
"""How often is looked whether there is something to do, if nothing is due before."""

STANDBY_SECONDS: Final = 1.0
"""How often a scheduler that stands by looks whether it is needed."""

SILENT_SECONDS: Final = 6
"""A scheduler that is stopped, or cut off, loses its place after this time."""

# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_736368

_FAILURES: Final = (DatabaseUnavailableError, CheckpointMovedError, *UNAVAILABLE)


async def run(
    settings: Settings,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    *,
    now: Clock = database_time,
) -> None:
    """Fire schedules until ``stop`` is set; ``on_ready`` is called once at work, or standing by.

    Any number of processes may run this. Raises ``DatabaseUnavailableError`` when the database is
    away at the start.
    """
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            settings.postgres.dsn, max_size=5, application_name="nbledger-scheduler"
        )
        stack.push_async_callback(close_pool, pool)
        store = EventStore(pool)
        await store.start()
        stack.push_async_callback(store.close)
        await _Runner(settings, pool, store, stop, on_ready, now=now).run()


class _Runner:
    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        store: EventStore,
        stop: asyncio.Event,
        on_ready: Callable[[], None],
        *,
        now: Clock,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._stop = stop
        self._on_ready = on_ready
        self._now = now
        self._ready = False
        self._backoff = Backoff(0.1, 5.0)

    async def run(self) -> None:
        while not self._stop.is_set():
            try:
                async with acquire(self._pool) as connection:
                    if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                        await self._lead(connection)
                    else:
                        self._report_ready()
                await self._pause(STANDBY_SECONDS)
            except _FAILURES as error:
                log.warning(
                    "scheduler interrupted", error=repr(error), failures=self._backoff.failures + 1
                )
                await self._pause(self._backoff.fail())
            except Exception:
                log.exception("scheduler stopped", failures=self._backoff.failures + 1)
                await self._pause(self._backoff.fail())

    async def _lead(self, connection: PooledConnection) -> None:
        """Fire until told to stop. The lock ends with the session, and that with silence."""
        await connection.execute(f"SET idle_session_timeout = '{SILENT_SECONDS}s'")
        log.info("scheduler at work")

        async def holds() -> None:
            await connection.execute("SELECT")

        scheduler = Scheduler(
            self._pool, self._store, self._settings.execution, now=self._now, holds=holds
        )
        while not self._stop.is_set():
            due = await scheduler.tick()
            self._report_ready()
            self._backoff.reset()
            await self._pause(TICK_SECONDS if due is None else min(max(due, 0.0), TICK_SECONDS))

    def _report_ready(self) -> None:
        if not self._ready:
            self._ready = True
            self._on_ready()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
