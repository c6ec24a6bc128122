"""Commands that the broker has forgotten: published again, once.

The relay publishes the command of each run that waits. It is enough until the broker forgets it,
which the id of its topic tells: a topic that was made anew is empty. The ids are kept in the
database, so that neither this process nor the broker need remember. A topic that has lost messages
and kept its id is known by where its log begins and ends.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final, Self
from uuid import UUID

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from nbledger_application import queue
from nbledger_application.queue import Waiting
from nbledger_domain.execution import Priority
from nbledger_infrastructure import clock
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.kafka import cloudevents
from nbledger_infrastructure.kafka.clients import (
    BrokerUnavailableError,
    command_routes,
    consumer,
    ensure_topics,
    producer,
)
from nbledger_infrastructure.kafka.topic_ids import topic_ids
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    PooledConnection,
    acquire,
)
from nbledger_infrastructure.settings import Settings
from nbledger_workers.sweeping.command_offsets import CommandOffsets, Extents, lost_before

log = structlog.get_logger(__name__)

PAGE: Final = 500
"""Commands that are published at a time."""

_SEND_SECONDS: Final = 10.0
# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_636D64
LOCK_SECONDS: Final = 60
"""Seconds after which a process that is stopped while it looks gives the lock up to another one."""

_KNOWN: Final = """
SELECT topic, topic_id, through, requested_at, execution_id, done, begun_at < $2 AS old
FROM command_topic WHERE topic = ANY($1)
"""

# How far the relay has come is all that it has published: what follows is for it to publish.
_BEGIN: Final = """
INSERT INTO command_topic (topic, topic_id, through)
VALUES ($1, $2, coalesce((SELECT position FROM projection_checkpoint WHERE name = 'relay'), 0))
ON CONFLICT (topic) DO UPDATE SET
    topic_id = excluded.topic_id, through = excluded.through, begun_at = excluded.begun_at,
    requested_at = excluded.requested_at, execution_id = excluded.execution_id,
    done = excluded.done
"""

_MOVE: Final = """
UPDATE command_topic SET requested_at = $3, execution_id = $4, done = $5
WHERE topic = $1 AND topic_id = $2
"""


class _Known(msgspec.Struct):
    """A row of ``command_topic``; ``old`` when it was begun before what the broker keeps."""

    topic: str
    topic_id: UUID
    through: int
    requested_at: datetime
    execution_id: UUID
    done: bool
    old: bool


class LostCommands:
    """Looks whether the broker still has the commands of what waits, and publishes them again."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._retention = timedelta(hours=settings.kafka.retention_hours)
        self._broker = _Broker(settings)
        self._offsets = CommandOffsets()
        self._away = False

    async def look_until(self, stop: asyncio.Event) -> None:
        """Look again and again; of several processes one at a time does."""
        async with self._broker:
            while not stop.is_set():
                try:
                    await self._look_alone(stop)
                    if self._away:
                        self._away = False
                        log.info("commands can be published again")
                except (
                    BrokerUnavailableError,
                    DatabaseUnavailableError,
                    KafkaError,
                    OSError,
                    *UNAVAILABLE,
                ) as error:
                    if not self._away:
                        self._away = True
                        log.warning("commands cannot be published again", error=repr(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.recovery.sweep_seconds):
                        await stop.wait()

    async def _look_alone(self, stop: asyncio.Event) -> None:
        async with acquire(self._pool) as connection, connection.transaction():
            if await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                await connection.execute(
                    f"SET LOCAL idle_in_transaction_session_timeout = '{LOCK_SECONDS}s'"
                )
                await self._look(stop, connection)

    async def _look(self, stop: asyncio.Event, lock: PooledConnection) -> None:
        """Compare the topics of the broker with those known; costs a few small questions."""
        ids = await self._broker.topic_ids()
        routes = command_routes(self._settings.kafka, ids)
        extents = await self._broker.extents(self._offsets, {each: ids[each] for each in routes})
        shortened = self._offsets.shortened(extents)
        kept_since = clock.now() - self._retention
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_KNOWN, list(routes), kept_since)
        known = {row["topic"]: _Known(*row) for row in rows}
        begun = False
        for topic, route in routes.items():
            found = known.get(topic)
            if found is None or found.topic_id != ids[topic]:
                log.info("topic of commands is new", topic=topic)
            elif await self._has_lost(topic, route, shortened.get(ids[topic])):
                log.warning("topic of commands has lost messages", topic=topic)
            elif not (found.old and await queue.waits_since(self._pool, *route, kept_since)):
                continue
            begun = True
            async with acquire(self._pool) as connection:
                await connection.execute(_BEGIN, topic, ids[topic])
        self._offsets.saw(extents)
        if begun:
            async with acquire(self._pool) as connection:
                rows = await connection.fetch(_KNOWN, list(routes), kept_since)
            known = {row["topic"]: _Known(*row) for row in rows}
        for topic, each in known.items():
            if not each.done:
                await self._publish(each, routes[topic], stop, lock)

    async def _has_lost(
        self, topic: str, route: tuple[str, Priority], published: Mapping[int, datetime] | None
    ) -> bool:
        """Whether a run waits whose command may be among what this topic has no more."""
        if published is None:
            return False
        moment = await self._broker.lost_before(topic, published)
        return await queue.waits_since(self._pool, *route, moment)

    async def _publish(
        self,
        known: _Known,
        route: tuple[str, Priority],
        stop: asyncio.Event,
        lock: PooledConnection,
    ) -> None:
        """Publish what waits from where it was left, and note after each page how far it is.

        The session that holds the ``lock`` is used at each page: it ends when it is idle for too
        long, and what is published after that another process would publish too.
        """
        count = 0
        while not known.done and not stop.is_set():
            await lock.execute("SELECT")
            page = await queue.waiting_after(
                self._pool,
                *route,
                (known.requested_at, known.execution_id),
                through=known.through,
                limit=PAGE,
            )
            if page:
                await self._broker.send(known.topic, page)
                known.requested_at = page[-1].requested_at
                known.execution_id = page[-1].execution_id
            known.done = len(page) < PAGE
            count += len(page)
            async with acquire(self._pool) as connection:
                await connection.execute(
                    _MOVE,
                    known.topic,
                    known.topic_id,
                    known.requested_at,
                    known.execution_id,
                    known.done,
                )
        if count:
            log.info("commands published again", topic=known.topic, count=count)


class _Broker:
    """The producer of commands: made when it is needed, and anew after a failure."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._kernel_types = set(settings.worker.kernels)
        self._topics: set[str] = set()
        self._stack = AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def topic_ids(self) -> Mapping[str, UUID]:
        """The id of each topic, after those that have been there before were made again."""
        async with self._connected() as client:
            ids = await topic_ids(client)
            routes = command_routes(self._kafka, ids)
            if not self._topics <= routes.keys():
                await ensure_topics(self._kafka, sorted(self._kernel_types))
                ids = await topic_ids(client)
                routes = command_routes(self._kafka, ids)
            self._topics |= routes.keys()
            self._kernel_types |= {kernel_type for kernel_type, _ in routes.values()}
            return ids

    async def extents(self, offsets: CommandOffsets, ids: Mapping[str, UUID]) -> Extents:
        """Where the logs of these topics begin and end."""
        async with self._connected() as client:
            return await offsets.ask(client, await self._reading(), ids)

    async def lost_before(self, topic: str, published: Mapping[int, datetime]) -> datetime:
        """The moment before which messages of these partitions were deleted."""
        async with self._connected():
            return await lost_before(await self._reading(), topic, published)

    async def send(self, topic: str, waiting: Sequence[Waiting]) -> None:
        """Publish and wait until the broker has them all."""
        async with self._connected() as client, asyncio.timeout(_SEND_SECONDS):
            sent = [
                # Without a key: any partition, lest a command wait behind the very worker
                # that has no room for it while another one is idle.
                await client.send(
                    topic,
                    msgspec.json.encode(each.command),
                    headers=cloudevents.command_headers(
                        cloudevents.EXECUTE,
                        command_id=new_id(),
                        execution_id=each.execution_id,
                        at=clock.now(),
                    ),
                )
                for each in waiting
            ]
            await asyncio.gather(*sent)

    async def _reading(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = await self._stack.enter_async_context(
                consumer(self._kafka, client_id="nbledger-sweeper")
            )
        return self._consumer

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaProducer]:
        try:
            if self._producer is None:
                await ensure_topics(self._kafka, sorted(self._kernel_types))
                self._producer = await self._stack.enter_async_context(
                    producer(self._kafka, client_id="nbledger-sweeper")
                )
            yield self._producer
        except BaseException:
            self._producer = self._consumer = None
            stack, self._stack = self._stack, AsyncExitStack()
            await stack.aclose()
            raise
