"""The sweeper: finds executions that nobody runs and commands that nobody got.

The broker may forget and workers may die; what the store says is enough to go on.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final, Self
from uuid import UUID

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from nbledger_domain.errors import DomainError
from nbledger_domain.execution import Execution, Priority
from nbledger_infrastructure import clock, cloudevents, repository, worker_registry
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.event_store import EventStore, Metadata
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.kafka import (
    BrokerUnavailableError,
    command_topic,
    ensure_topics,
    producer,
)
from nbledger_infrastructure.settings import Settings
from nbledger_workers import leases
from nbledger_workers.claims import give_up_if_held
from nbledger_workers.lease_watch import LeaseWatch
from nbledger_workers.leases import Lease
from nbledger_workers.waiting import WAITING

log = structlog.get_logger(__name__)

# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_737765
_PAGE: Final = 500
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOCK_SECONDS: Final = 60
_SEND_SECONDS: Final = 10.0
_FORGET_EVERY_SECONDS: Final = 600.0
_MAX_BACKOFF_SECONDS: Final = 300.0

# Which executions have not ended is the read model's to say, and it may lag; all else about them
# is read from the events themselves.
_UNLEASED: Final = """
SELECT s.requested_at, s.execution_id, s.kernel_type, s.priority,
       last.type, last.subject_id, last.tenant_id, last.project_id,
       extract(epoch FROM clock_timestamp() - last.recorded_at)::float8 AS age
FROM execution_status AS s
CROSS JOIN LATERAL (
    SELECT type, subject_id, tenant_id, project_id, recorded_at FROM event
    WHERE stream_id = s.execution_id ORDER BY version DESC LIMIT 1
) AS last
WHERE NOT s.ended AND (s.requested_at, s.execution_id) > ($1, $2)
  AND NOT EXISTS (SELECT FROM execution_lease AS l WHERE l.execution_id = s.execution_id)
ORDER BY s.requested_at, s.execution_id LIMIT $3
"""


class Unleased(msgspec.Struct, frozen=True):
    """An execution without a lease: ``age`` is the seconds since its last event, of ``type``."""

    requested_at: datetime
    execution_id: UUID
    kernel_type: str
    priority: Priority
    type: str
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    age: float

    @property
    def waiting(self) -> bool:
        """Whether it waits for a worker."""
        return self.type in WAITING


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Sweep until ``stop`` is set; ``on_ready`` is called after the first sweep.

    Any number of processes may run this: one at a time sweeps. Raises
    ``DatabaseUnavailableError`` when the database is away at the start.
    """
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            settings.postgres.dsn, max_size=4, application_name="nbledger-sweeper"
        )
        stack.push_async_callback(close_pool, pool)
        store = EventStore(pool)
        await store.start()
        stack.push_async_callback(store.close)
        async with _Commands(settings) as commands:
            await _Sweeper(settings, pool, store, commands).sweep_until(stop, on_ready)


class _Sweeper:
    def __init__(
        self, settings: Settings, pool: Pool, store: EventStore, commands: "_Commands"
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._commands = commands
        self._announced: dict[UUID, _Announced] = {}
        self._first = True
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
        first, seen = self._first, set[UUID]()
        after = (_LONG_AGO, UUID(int=0))
        while page := await self._unleased(*after):
            after = (page[-1].requested_at, page[-1].execution_id)
            seen.update(each.execution_id for each in page)
            await self._recover_all_unleased(page)
            late = {each.execution_id for each in page if self._is_late(each)}
            for each in page:
                if each.execution_id in late:
                    await self._expire(each)
            due = [
                each
                for each in page
                if each.waiting
                and each.execution_id not in late
                and self._is_due(each, first=first)
            ]
            if due and not await self._announce(due):
                # The broker is away: all the same again at the next sweep.
                return
        self._first = False
        for execution_id in self._announced.keys() - seen:
            del self._announced[execution_id]
        if time.monotonic() > self._forget_at:
            await worker_registry.forget_dead(self._pool)
            self._forget_at = time.monotonic() + _FORGET_EVERY_SECONDS

    async def _unleased(self, requested_after: datetime, after: UUID) -> list[Unleased]:
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_UNLEASED, requested_after, after, _PAGE)
        return [Unleased(*row) for row in rows]

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

    async def _recover_all_unleased(self, page: Sequence[Unleased]) -> None:
        limit = self._settings.worker.lease_seconds
        silent = [each for each in page if not each.waiting and each.age > limit]
        # Asked after they were found: until then their workers could write their leases.
        if silent and await self._watch.is_calm():
            for each in silent:
                await self._recover_unleased(each)

    async def _recover_unleased(self, each: Unleased) -> None:
        """An execution that was claimed, but whose worker died before it wrote the lease."""
        history = await self._store.read_stream(each.execution_id)
        claims = [recorded for recorded in history if recorded.type == Execution.Claimed.TYPE]
        if claims:
            await self._recover(Lease(each.execution_id, len(claims)), "The worker holds no lease.")

    def _is_late(self, each: Unleased) -> bool:
        limit = self._settings.limits.queue_seconds
        return each.waiting and 0 < limit < each.age

    async def _expire(self, each: Unleased) -> None:
        """End what no worker has taken in time."""
        detail = f"No worker has taken the run within {self._settings.limits.queue_seconds:g} s."
        try:
            ended = await repository.update(
                self._store,
                Execution,
                each.execution_id,
                lambda execution: execution.expire(detail=detail, at=clock.now()),
                Metadata(actor="sweeper", correlation_id=str(each.execution_id)),
            )
        except DomainError:
            return  # somebody has taken it after all, or it has ended
        except (DatabaseUnavailableError, *UNAVAILABLE):
            raise
        except Exception:
            log.exception("waiting run not ended", execution_id=str(each.execution_id))
            return
        if ended is not None:
            log.info("waited too long", execution_id=str(each.execution_id), seconds=each.age)

    def _is_due(self, each: Unleased, *, first: bool) -> bool:
        if first:
            # An embedded broker forgets when it is started anew, as it just may have been.
            return True
        known = self._announced.get(each.execution_id)
        if known is None:
            return each.age > self._settings.recovery.redispatch_after_seconds
        return time.monotonic() > known.next_at

    async def _announce(self, due: Sequence[Unleased]) -> bool:
        """Publish the command of each; False when the broker does not take them."""
        try:
            await self._commands.send(due)
        except (BrokerUnavailableError, KafkaError, OSError) as error:
            log.warning("commands not published again", count=len(due), error=repr(error))
            return False
        for each in due:
            known = self._announced.get(each.execution_id)
            wait = (
                self._settings.recovery.redispatch_after_seconds
                if known is None
                else min(known.wait * 2, _MAX_BACKOFF_SECONDS)
            )
            self._announced[each.execution_id] = _Announced(time.monotonic() + wait, wait)
        log.info("commands published again", count=len(due))
        return True


class _Announced(msgspec.Struct, frozen=True):
    """When a command is due again (monotonic), and the wait that led there."""

    next_at: float
    wait: float


class _Commands:
    """Publishes commands; the producer is made when it is needed, and anew after a failure."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._stack = AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None
        self._topics: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def send(self, due: Sequence[Unleased]) -> None:
        """Publish and wait until the broker has them all."""
        async with self._sending({each.kernel_type for each in due}) as client:
            async with asyncio.timeout(_SEND_SECONDS):
                sent = [
                    # Without a key: any partition, lest a command wait behind the very worker
                    # that has no room for it while another one is idle.
                    await client.send(
                        command_topic(self._kafka, each.kernel_type, each.priority),
                        msgspec.json.encode(
                            Command(
                                each.execution_id,
                                each.notebook_id,
                                each.tenant_id,
                                each.project_id,
                            )
                        ),
                        headers=cloudevents.command_headers(
                            cloudevents.EXECUTE,
                            command_id=new_id(),
                            execution_id=each.execution_id,
                            at=clock.now(),
                        ),
                    )
                    for each in due
                ]
                await asyncio.gather(*sent)

    @asynccontextmanager
    async def _sending(self, kernel_types: set[str]) -> AsyncIterator[AIOKafkaProducer]:
        try:
            if self._producer is None or not kernel_types <= self._topics:
                await ensure_topics(self._kafka, sorted(kernel_types))
                self._topics |= kernel_types
            if self._producer is None:
                self._producer = await self._stack.enter_async_context(
                    producer(self._kafka, client_id="nbledger-sweeper")
                )
            yield self._producer
        except BaseException:
            self._producer = None
            self._topics.clear()
            stack, self._stack = self._stack, AsyncExitStack()
            await stack.aclose()
            raise
