"""The sweeper: finds executions that nobody runs and commands that nobody got.

The broker may forget and workers may die; what the store says is enough to go on. Each look
touches what may be due only, however many executions wait.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Final
from uuid import UUID

import structlog

from nbledger_application import leases, queue, repository
from nbledger_application.claims import give_up_if_held
from nbledger_application.lease_watch import LeaseWatch
from nbledger_application.leases import Lease
from nbledger_domain.errors import DomainError
from nbledger_domain.execution import Execution
from nbledger_infrastructure import clock, worker_registry
from nbledger_infrastructure.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.event_store import EventStore, Metadata
from nbledger_infrastructure.settings import Settings
from nbledger_workers.lost_commands import LostCommands

log = structlog.get_logger(__name__)

# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_737765
_LOCK_SECONDS: Final = 60
_FORGET_EVERY_SECONDS: Final = 600.0
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
        self._store = store
        self._forget_at = 0.0
        self._watch = LeaseWatch(
            pool,
            lease_seconds=settings.worker.lease_seconds,
            every_seconds=settings.recovery.sweep_seconds,
        )

    async def sweep_until(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        # Beside the sweeps: one may take long, as when the broker is away.
        watching = asyncio.create_task(self._watch.run(), name="lease watch")
        try:
            await self._sweep_until(stop, on_ready)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

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
                await self._sweep()

    async def _sweep(self) -> None:
        for lease in await self._watch.expired():
            await self._recover(
                Lease(lease.execution_id, lease.epoch),
                f"Worker {lease.worker_id} stopped renewing its lease.",
            )
        lease_seconds = self._settings.worker.lease_seconds
        silent = await queue.unleased(self._pool, silent_seconds=lease_seconds)
        # Asked after they were found: until then their workers could write their leases.
        if silent and await self._watch.is_calm():
            for execution_id in silent:
                await self._recover_unleased(execution_id)
        if (limit := self._settings.limits.queue_seconds) > 0:
            for execution_id in await queue.late(self._pool, seconds=limit):
                await self._expire(execution_id)
        if time.monotonic() > self._forget_at:
            await worker_registry.forget_dead(self._pool)
            self._forget_at = time.monotonic() + _FORGET_EVERY_SECONDS

    async def _recover(self, lease: Lease, reason: str) -> None:
        """Record the loss of an attempt, unless it is over, and remove its lease."""
        try:
            execution = await give_up_if_held(
                self._store,
                lease,
                reason,
                Metadata(actor="sweeper", correlation_id=str(lease.execution_id)),
                max_attempts=self._settings.recovery.max_attempts,
            )
        except (DatabaseUnavailableError, *UNAVAILABLE):
            raise
        except Exception:
            # One execution that cannot be read or is busy must not keep the others waiting.
            log.exception("attempt not given up", execution_id=str(lease.execution_id))
            return
        if execution is not None:
            log.warning(
                "worker lost",
                execution_id=str(lease.execution_id),
                epoch=lease.epoch,
                outcome="failed" if execution.ended else "waits again",
            )
        await leases.release(self._pool, lease)

    async def _recover_unleased(self, execution_id: UUID) -> None:
        """An execution that was claimed, but whose worker died before it wrote the lease."""
        history = await self._store.read_stream(execution_id)
        claims = [recorded for recorded in history if recorded.type == Execution.Claimed.TYPE]
        if claims:
            await self._recover(Lease(execution_id, len(claims)), "The worker holds no lease.")

    async def _expire(self, execution_id: UUID) -> None:
        """End what no worker has taken in time."""
        detail = f"No worker has taken the run within {self._settings.limits.queue_seconds:g} s."
        try:
            ended = await repository.update(
                self._store,
                Execution,
                execution_id,
                lambda execution: execution.expire(detail=detail, at=clock.now()),
                Metadata(actor="sweeper", correlation_id=str(execution_id)),
            )
        except DomainError:
            return  # somebody has taken it after all, or it has ended
        except (DatabaseUnavailableError, *UNAVAILABLE):
            raise
        except Exception:
            log.exception("waiting run not ended", execution_id=str(execution_id))
            return
        if ended is not None:
            log.info("waited too long", execution_id=str(execution_id))
