"""The relay: publishes every event, and the commands that follow from some, to Kafka.

One relay at a time is at work; others stand by. Its position moves after the broker has
acknowledged everything before it: at least once, and in order for each stream.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from uuid import UUID

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from nbledger_domain.execution import Execution
from nbledger_infrastructure.kafka.clients import (
    BrokerUnavailableError,
    TopicRefusedError,
    ensure_topics,
    producer,
)
from nbledger_infrastructure.kafka.event_topic import (
    REPEATED_EVENTS,
    Acknowledged,
    BrokerForgotError,
    EventTopic,
)
from nbledger_infrastructure.kafka.messages import Message, Route, command_message, event_message
from nbledger_infrastructure.kafka.offsets import Offsets
from nbledger_infrastructure.kafka.publishing import publish
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint
from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_store import EventTail, RecordedEvent
from nbledger_infrastructure.postgres.leading import Leader
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

NAME = "relay"
"""Under this name the relay keeps its position."""

BATCH_EVENTS = 200
"""So many events at a time, after a pause too: a larger batch would need memory that is needed at
no other time, and that a process does not give back."""


ACK_TIMEOUT = 8.0
"""Seconds for the broker to take a batch. Less than aiokafka's own limit for a message, so that
the producer is given up before it drops a message and goes on to the next one of its stream."""

FORGOTTEN_SECONDS = 1.0
"""After this time without an acknowledgement, missing topics are made again."""

CHECK_SECONDS = 2.0
"""How often the broker is asked whether it still has the topic of events."""

# Any constant does, as long as nothing else in the database locks on it.
_LOCK = 0x6E626C_72656C


_INTERRUPTIONS = (BrokerForgotError, BrokerUnavailableError, KafkaError)


class _Restart(msgspec.Struct, frozen=True):
    """The part of a lost attempt that its command needs."""

    restart: bool


_decode_route = msgspec.json.Decoder(Route).decode
_decode_restart = msgspec.json.Decoder(_Restart).decode


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Publish until ``stop`` is set; ``on_ready`` is called once at work, or standing by.

    While the broker or the database is away it is tried again and again. Raises
    ``DatabaseUnavailableError`` when the database is away at the start.
    """
    pool = await connect_pool(settings.postgres.dsn, max_size=3, application_name="nbledger-relay")
    try:
        await _Relay(pool, settings, stop, on_ready).run()
    finally:
        await close_pool(pool)


class _Relay:
    def __init__(
        self, pool: Pool, settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._kafka = settings.kafka
        self._address = settings.http.address
        self._kernel_types = set(settings.worker.kernels)
        self._refused: set[str] = set()
        self._stop = stop
        self._leader = Leader("relay", _LOCK, stop, on_ready, interruptions=_INTERRUPTIONS)

    async def run(self) -> None:
        await self._leader.lead(self._pool, self._publish_until_told)

    async def _publish_until_told(self, connection: PooledConnection) -> None:
        """Publish, with a producer of its own, until told to stop; the lock ends with it."""
        checkpoint = await checkpoints.ensure(connection, NAME)
        offsets, topic = Offsets(self._kafka), EventTopic(self._kafka)
        # Whatever the broker has forgotten is made again.
        await ensure_topics(self._kafka, sorted(self._kernel_types))
        async with (
            producer(self._kafka, client_id="nbledger-relay") as client,
            EventTail(self._pool, checkpoint.position, BATCH_EVENTS) as tail,
        ):
            log.info("relay at work", position=checkpoint.position)
            self._leader.at_work()
            if await topic.compare(connection, client):
                await self._repeat(connection, client, topic, checkpoint.position)
            async with aclosing(self._batches(tail, partial(topic.check, client))) as batches:
                async for batch in batches:
                    messages = await self._messages(connection, batch)
                    acknowledged = await self._publish(client, messages, topic)
                    await offsets.check(acknowledged)
                    try:
                        topic.took(acknowledged)
                    except BrokerForgotError:
                        await topic.forget(connection)
                        raise
                    checkpoint = await _move(connection, checkpoint, batch[-1].position, topic)
                    self._leader.succeeded()

    async def _repeat(
        self,
        connection: PooledConnection,
        client: AIOKafkaProducer,
        topic: EventTopic,
        position: int,
    ) -> None:
        """Publish the last events up to ``position`` once more: somebody may not have had them."""
        first = max(position - REPEATED_EVENTS, 0)
        # A broker whose offsets are made to go on is known to forget: at each start it is empty.
        tell = log.info if self._kafka.keep_offsets else log.warning
        tell("the broker has forgotten the topic of events", told_again=position - first)
        async with EventTail(self._pool, first, BATCH_EVENTS) as earlier:
            while earlier.after_position < position:
                messages = [
                    event_message(recorded, self._kafka, self._address)
                    for recorded in await earlier.next_batch()
                    if recorded.position <= position
                ]
                topic.took(await self._publish(client, messages, topic))
        await topic.note(connection)

    async def _batches(
        self, tail: EventTail, check: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[Sequence[RecordedEvent], None]:
        """Batches until told to stop; the next one is read while one is being published.

        ``check`` is called at intervals, whether there are batches or not: who has not read the
        last events of a broker that was started anew is not to wait for the next one.
        """
        stopping = asyncio.create_task(self._stop.wait())
        reading = asyncio.create_task(tail.next_batch())
        loop = asyncio.get_running_loop()
        due = loop.time() + CHECK_SECONDS
        try:
            while not self._stop.is_set():
                await asyncio.wait(
                    (stopping, reading),
                    timeout=max(due - loop.time(), 0.0),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if loop.time() >= due:
                    await check()
                    due = loop.time() + CHECK_SECONDS
                if reading.done():
                    batch = reading.result()
                    reading = asyncio.create_task(tail.next_batch())
                    yield batch
        finally:
            stopping.cancel()
            reading.cancel()
            await asyncio.gather(stopping, reading, return_exceptions=True)

    async def _messages(
        self, connection: PooledConnection, batch: Sequence[RecordedEvent]
    ) -> list[Message]:
        """What ``batch`` has published, in order."""
        messages: list[Message] = []
        for recorded in batch:
            messages.append(event_message(recorded, self._kafka, self._address))
            if recorded.data is None:
                continue
            if recorded.type == Execution.Requested.TYPE:
                route = _decode_route(recorded.data)
            elif recorded.type == Execution.AttemptLost.TYPE:
                if not _decode_restart(recorded.data).restart:
                    continue
                restarted = await _requested_route(connection, recorded.stream_id)
                if restarted is None:
                    continue
                route = restarted
            elif recorded.type == Execution.CancelRequested.TYPE:
                messages.append(command_message(recorded, self._kafka, None))
                continue
            else:
                continue
            if route.kernel_type not in self._kernel_types and not await self._made_topics(
                route.kernel_type
            ):
                continue
            messages.append(command_message(recorded, self._kafka, route))
        return messages

    async def _made_topics(self, kernel_type: str) -> bool:
        """Make the topics of a kernel type that an upload has brought.

        Its name is the uploader's: where the broker does not take it, nobody else may be held up.
        Workers find what waits in the store, too.
        """
        if kernel_type in self._refused:
            return False
        try:
            await ensure_topics(self._kafka, [kernel_type])
        except TopicRefusedError as error:
            log.warning("no topics for a kernel type", kernel_type=kernel_type, error=str(error))
            self._refused.add(kernel_type)
            return False
        self._kernel_types.add(kernel_type)
        return True

    async def _publish(
        self, client: AIOKafkaProducer, messages: Sequence[Message], topic: EventTopic
    ) -> list[Acknowledged]:
        gaps = {(topic.name, partition): gap for partition, gap in topic.gaps.items()}
        sending = asyncio.create_task(publish(client, messages, gaps))
        try:
            async with asyncio.timeout(ACK_TIMEOUT):
                while not (await asyncio.wait((sending,), timeout=FORGOTTEN_SECONDS))[0]:
                    # Perhaps the broker was started anew and waits for a topic it has forgotten.
                    with suppress(BrokerUnavailableError):
                        await ensure_topics(self._kafka, sorted(self._kernel_types))
                return await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _requested_route(connection: PooledConnection, execution_id: UUID) -> Route | None:
    """Where the execution's commands go; None when it has been erased."""
    # Taken apart here: PostgreSQL's JSON operators refuse data with \u0000 anywhere in it.
    data: str | None = await connection.fetchval(
        "SELECT data FROM event WHERE stream_id = $1 AND version = 1", execution_id
    )
    return None if data is None else _decode_route(data)


async def _move(
    connection: PooledConnection, expected: Checkpoint, position: int, topic: EventTopic
) -> Checkpoint:
    async with connection.transaction():
        await checkpoints.lock_at(connection, NAME, expected)
        await checkpoints.move(connection, NAME, position)
        await topic.note(connection)
    return Checkpoint(position, expected.generation)
