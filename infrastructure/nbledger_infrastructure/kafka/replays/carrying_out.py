"""Publishing events again: a range of positions, to a topic, from wherever it was left.

At least once: what the broker had acknowledged is noted after each batch, so that whoever is killed
goes on there, and what was on its way then comes once more. A topic that was made anew, because the
broker has forgotten it, gets everything from the first event on.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Final
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.kafka.clients import (
    BrokerUnavailableError,
    TopicRefusedError,
    ensure_replay_topic,
    producer,
)
from nbledger_infrastructure.kafka.messages import event_message
from nbledger_infrastructure.kafka.publishing import publish
from nbledger_infrastructure.kafka.topic_ids import topic_ids
from nbledger_infrastructure.postgres import event_replays
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    acquire,
)
from nbledger_infrastructure.postgres.event_replays import EventReplay, ReplayRange
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.ranges import read_range
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

BATCH_EVENTS: Final = 2_000
"""So many events are read at a time, or fewer where they are large, and two batches are held."""

ACK_TIMEOUT: Final = 60.0
"""Seconds for the broker to take a batch."""

CHECK_SECONDS: Final = 2.0
"""How often the broker is asked whether it still has the topic."""

Progress = Callable[[EventReplay], None]


class TopicMadeAnewError(Exception):
    """The broker has forgotten the topic while it was written."""


INTERRUPTIONS: Final = (
    TopicMadeAnewError,
    BrokerUnavailableError,
    KafkaError,
    DatabaseUnavailableError,
    *UNAVAILABLE,
)
"""What ends the work for the moment; it is taken up again."""


async def carry_out(
    pool: Pool,
    settings: Settings,
    replay: EventReplay,
    stop: asyncio.Event,
    progress: Progress = lambda _: None,
) -> EventReplay:
    """Publish until everything is, or ``stop`` is set; returns how it then is.

    While the broker or the database is away it is tried again and again, and the replay tells why
    it waits. ``progress`` is told after each batch.
    """
    backoff = Backoff(0.1, 5.0)
    current = replay

    def moved(found: EventReplay) -> None:
        nonlocal current
        if found.position != current.position:
            backoff.reset()
        current = found
        progress(found)

    while not stop.is_set() and not current.ended:
        try:
            await _publish_range(pool, settings, current, stop, moved)
        except TopicRefusedError as error:
            async with acquire(pool) as connection:
                ended = await event_replays.end(connection, current.replay_id, "failed", str(error))
            return ended or current
        except INTERRUPTIONS as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            log.warning("replay interrupted", replay_id=str(current.replay_id), error=reason)
            with suppress(DatabaseUnavailableError, *UNAVAILABLE):
                await event_replays.tell(pool, current.replay_id, reason)
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.fail()):
                    await stop.wait()
    return current


async def _publish_range(
    pool: Pool, settings: Settings, replay: EventReplay, stop: asyncio.Event, moved: Progress
) -> None:
    await ensure_replay_topic(settings.kafka, replay.asked.topic)
    async with producer(settings.kafka, client_id="nbledger-replay") as client:
        topic_id = await _topic_id(client, replay.asked.topic)
        async with acquire(pool) as connection:
            begun = await event_replays.begin(connection, replay, topic_id)
        if begun is None:
            moved(await _as_it_is(pool, replay))
            return
        moved(begun)
        check = _Check(client, replay.asked.topic, topic_id)
        async with aclosing(_batches(pool, begun.asked, begun.position)) as batches:
            async for batch in batches:
                if stop.is_set():
                    return
                found = await _publish_batch(pool, settings, client, begun, batch)
                if found is None:
                    moved(await _as_it_is(pool, replay))
                    return
                moved(found)
                await check.when_due()
        # What the broker has forgotten by now is not there, whatever it acknowledged.
        await check()
    async with acquire(pool) as connection:
        moved(await event_replays.end(connection, replay.replay_id, "completed") or begun)


async def _publish_batch(
    pool: Pool,
    settings: Settings,
    client: AIOKafkaProducer,
    replay: EventReplay,
    batch: Sequence[RecordedEvent],
) -> EventReplay | None:
    topic, address = replay.asked.topic, settings.http.address
    messages = [event_message(each, settings.kafka, address, replay_to=topic) for each in batch]
    async with asyncio.timeout(ACK_TIMEOUT):
        await publish(client, messages)
    async with acquire(pool) as connection:
        return await event_replays.move(
            connection, replay.replay_id, batch[-1].position, len(batch)
        )


async def _as_it_is(pool: Pool, replay: EventReplay) -> EventReplay:
    """The replay that somebody has ended."""
    async with acquire(pool) as connection:
        return await event_replays.reread(connection, replay.replay_id) or replay


async def _batches(
    pool: Pool, asked: ReplayRange, position: int
) -> AsyncGenerator[Sequence[RecordedEvent], None]:
    """What comes after ``position``; the next batch is read while one is being published."""

    async def read(after: int) -> Sequence[RecordedEvent]:
        async with acquire(pool) as connection:
            return await read_range(
                connection,
                *(after, asked.last, BATCH_EVENTS),
                tenant_id=asked.tenant_id,
                project_id=asked.project_id,
            )

    reading = asyncio.create_task(read(position))
    try:
        while batch := await reading:
            reading = asyncio.create_task(read(batch[-1].position))
            yield batch
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _topic_id(client: AIOKafkaProducer, topic: str) -> UUID:
    found = (await topic_ids(client)).get(topic)
    if found is None:
        raise TopicMadeAnewError("the broker does not have the topic")
    return found


class _Check:
    """Whether the broker still has the topic; raises :class:`TopicMadeAnewError` if not."""

    def __init__(self, client: AIOKafkaProducer, topic: str, topic_id: UUID) -> None:
        self._client = client
        self._topic = topic
        self._topic_id = topic_id
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + CHECK_SECONDS

    async def __call__(self) -> None:
        if await _topic_id(self._client, self._topic) != self._topic_id:
            raise TopicMadeAnewError("the broker has made the topic anew")

    async def when_due(self) -> None:
        """Ask, where it was not asked lately."""
        if self._loop.time() >= self._due:
            await self()
            self._due = self._loop.time() + CHECK_SECONDS
