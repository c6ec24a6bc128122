"""Finds executions that nobody runs, and those that wait for too long, and records what follows.

Workers may die; what the store says is enough to go on. Each sweep touches what may be due only,
however many executions wait.
"""

import time
from typing import Final
from uuid import UUID

import structlog

from nbledger_application import idempotency, leases, queue, repository
from nbledger_application.claims import give_up_if_held
from nbledger_application.lease_watch import LeaseWatch
from nbledger_application.leases import Lease
from nbledger_domain.errors import DomainError
from nbledger_domain.execution import Execution
from nbledger_infrastructure import clock
from nbledger_infrastructure.actors import SWEEPER
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError, Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

_TIDY_EVERY_SECONDS: Final = 600.0


class Sweep:
    """Sweeps again and again; ``watch`` is to be kept running beside it."""

    def __init__(self, settings: Settings, pool: Pool, store: EventStore) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._tidy_at = 0.0
        self.watch = LeaseWatch(
            pool,
            lease_seconds=settings.worker.lease_seconds,
            every_seconds=settings.recovery.sweep_seconds,
        )

    async def once(self) -> None:
        """Sweep; of several processes one at a time should. Raises ``DatabaseUnavailableError``."""
        for lease in await self.watch.expired():
            await self._recover(
                Lease(lease.execution_id, lease.epoch),
                f"Worker {lease.worker_id} stopped renewing its lease.",
            )
        lease_seconds = self._settings.worker.lease_seconds
        silent = await queue.unleased(self._pool, silent_seconds=lease_seconds)
        # Asked after they were found: until then their workers could write their leases.
        if silent and await self.watch.is_calm():
            for execution_id in silent:
                await self._recover_unleased(execution_id)
        if (limit := self._settings.limits.queue_seconds) > 0:
            for execution_id in await queue.late(self._pool, seconds=limit):
                await self._expire(execution_id)
        if time.monotonic() > self._tidy_at:
            await worker_registry.forget_dead(self._pool)
            await queue.forget_shares(self._pool)
            if repaired := await queue.repair(self._pool):
                log.warning("rows of the queue were not as the events say", repaired=repaired)
            kept_seconds = self._settings.recovery.idempotency_hours * 3600.0
            await idempotency.forget(self._pool, older_than=kept_seconds)
            self._tidy_at = time.monotonic() + _TIDY_EVERY_SECONDS

    async def _recover(self, lease: Lease, reason: str) -> None:
        """Record the loss of an attempt, unless it is over, and remove its lease."""
        try:
            execution = await give_up_if_held(
                self._store,
                lease,
                reason,
                Metadata(actor=SWEEPER, correlation_id=str(lease.execution_id)),
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
                Metadata(actor=SWEEPER, correlation_id=str(execution_id)),
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
