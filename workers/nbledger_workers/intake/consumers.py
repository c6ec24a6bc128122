"""Commands and requests from Kafka: consumers that are made anew whenever the broker fails them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias
from uuid import UUID

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from nbledger_domain.execution import PRIORITIES
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.kafka import cloudevents
from nbledger_infrastructure.kafka.clients import (
    BrokerUnavailableError,
    command_topic,
    consumer,
    control_topic,
    ensure_topics,
    worker_group,
)
from nbledger_infrastructure.kafka.event_topic import BrokerForgotError
from nbledger_infrastructure.kafka.topic_ids import topic_ids
from nbledger_infrastructure.settings import Kafka
from nbledger_workers.intake.doorbell import Doorbell

log = structlog.get_logger(__name__)

STUCK_SECONDS: Final = 120.0
"""A partition with messages whose position has not moved for so long is stuck."""

PROBE_SECONDS: Final = 3.0
"""How often a consumer's positions are compared with what the broker has."""

_POLL_SECONDS: Final = 0.5
_BATCH: Final = 100
_ANSWER_SECONDS: Final = 10.0
_LAST_COMMIT_SECONDS: Final = 1.0
_COMMIT_SECONDS: Final = 0.1

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
_Connection = AbstractAsyncContextManager[AIOKafkaConsumer]


class ConsumerStuckError(Exception):
    """The broker has messages that this consumer does not get; a new process is the remedy."""


async def commands(
    kafka: Kafka,
    kernel_types: list[str],
    *,
    doorbell: Doorbell,
    client_id: str,
    on_ready: Callable[[], None],
) -> None:
    """Ring the bell for every execute command, for ever.

    What a command is about is a guess at what may be next, no more: the store tells what is, so
    that no order of messages matters and none need be kept. Its offset is committed soon. Raises
    :class:`ConsumerStuckError`.
    """
    topics = [
        command_topic(kafka, kernel_type, priority)
        for kernel_type in kernel_types
        for priority in PRIORITIES
    ]

    @asynccontextmanager
    async def connect() -> AsyncIterator[AIOKafkaConsumer]:
        await ensure_topics(kafka, kernel_types, events=False)
        async with consumer(
            kafka,
            *topics,
            client_id=client_id,
            group_id=worker_group(kafka),
            session_timeout_ms=int(kafka.session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(kafka.session_timeout_seconds * 200),
            fetch_max_wait_ms=round(kafka.fetch_wait_seconds * 1000),
            # A consumer that found its topics missing gets no partition until it looks again.
            metadata_max_age_ms=5_000,
        ) as client:
            yield client

    async def serve(client: AIOKafkaConsumer, probe: "_Probe") -> None:
        commits = _Commits(client)
        try:
            while True:
                for record in await _poll(client, _POLL_SECONDS, _BATCH):
                    command = _decode(record, cloudevents.EXECUTE)
                    if command is not None:
                        doorbell.ring(command)
                    commits.add(record)
                await probe.check(client)
        finally:
            await commits.finish()

    await _for_ever("commands", connect, serve, on_ready)


class _Commits:
    """Commits the offsets of what has come, behind the work: one commit at a time."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._client = client
        self._offsets: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, record: Record) -> None:
        """This record, and those before it, need not come again; raises what a commit met."""
        self._offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()
        if self._task is None:
            self._task = asyncio.create_task(self._commit())

    async def finish(self) -> None:
        """Wait for what is under way; what is not committed comes again, and rings once more."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_LAST_COMMIT_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _commit(self) -> None:
        while self._offsets:
            # What comes meanwhile goes along, and the run that has rung is under way by then.
            await asyncio.sleep(_COMMIT_SECONDS)
            offsets, self._offsets = self._offsets, {}
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._client.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                # The partition went to another worker, which gets the command again.
                log.info("offsets not committed", error=type(error).__name__)


async def cancels(kafka: Kafka, cancel: Callable[[UUID], None], *, client_id: str) -> None:
    """Give the execution of every request to cancel to ``cancel``, for ever.

    A request that is missed here is found by the lease renewal.
    """

    @asynccontextmanager
    async def connect() -> AsyncIterator[AIOKafkaConsumer]:
        await ensure_topics(kafka, [], events=False)
        async with consumer(
            kafka, control_topic(kafka), client_id=client_id, auto_offset_reset="latest"
        ) as client:
            yield client

    async def serve(client: AIOKafkaConsumer, probe: "_Probe") -> None:
        while True:
            for record in await _poll(client, _POLL_SECONDS, 500):
                command = _decode(record, cloudevents.CANCEL)
                if command is not None:
                    cancel(command.execution_id)
            await probe.check(client)

    await _for_ever("control", connect, serve, lambda: None)


async def _for_ever(
    what: str,
    connect: Callable[[], _Connection],
    serve: Callable[[AIOKafkaConsumer, "_Probe"], Awaitable[None]],
    on_ready: Callable[[], None],
) -> None:
    backoff = Backoff(0.1, 2.0)
    while True:
        try:
            async with connect() as client:
                if backoff.failures:
                    log.info("consumer is back", consumer=what)
                backoff.reset()
                on_ready()
                await serve(client, _Probe())
        except (BrokerUnavailableError, BrokerForgotError, KafkaError, OSError) as error:
            if not backoff.failures:
                log.warning("consumer is made anew", consumer=what, error=repr(error))
        await backoff.wait()


async def _poll(
    client: AIOKafkaConsumer, seconds: float, limit: int, *partitions: TopicPartition
) -> list[Record]:
    try:
        # The client's own limit does not hold while partitions are being assigned.
        async with asyncio.timeout(seconds + 1.0):
            polled: Mapping[TopicPartition, list[Record]] = await client.getmany(
                *partitions, timeout_ms=int(seconds * 1000), max_records=limit
            )
    except TimeoutError:
        return []
    return [record for records in polled.values() for record in records]


def _decode(record: Record, wanted: str) -> Command | None:
    told = cloudevents.attributes(tuple(record.headers)).get("type")
    if told != wanted or record.value is None:
        log.warning("message of another type ignored", topic=record.topic, type=told)
        return None
    try:
        return msgspec.json.decode(record.value, type=Command)
    except msgspec.MsgspecError:
        log.warning("unreadable message ignored", topic=record.topic, offset=record.offset)
        return None


class _Probe:
    """Compares where a consumer is with what the broker has, now and then."""

    def __init__(self) -> None:
        self._due = float("-inf")
        self._ids: dict[str, UUID | None] = {}
        self._seen: dict[TopicPartition, tuple[int, float]] = {}

    async def check(self, client: AIOKafkaConsumer) -> None:
        """Whether all is well.

        Raises BrokerForgotError, ConsumerStuckError, or what says that the broker is away.
        """
        now = time.monotonic()
        assigned = client.assignment()
        if now < self._due or not assigned:
            return
        self._due = now + PROBE_SECONDS
        ids = await topic_ids(client)
        for topic in {partition.topic for partition in assigned}:
            if self._ids.setdefault(topic, ids.get(topic)) != ids.get(topic):
                raise BrokerForgotError(topic)
        async with asyncio.timeout(_ANSWER_SECONDS):
            ends: Mapping[TopicPartition, int] = await client.end_offsets(list(assigned))
            positions = {partition: await client.position(partition) for partition in assigned}
        for partition, position in positions.items():
            # Tansu counts of the last batch the first message only: it may tell less than was read.
            behind = max(ends[partition] - position, 0)
            last, since = self._seen.get(partition, (-1, now))
            if behind == 0 or position != last:
                self._seen[partition] = (position, now)
            elif now - since > STUCK_SECONDS:
                log.critical(
                    "consumer is stuck, the process ends",
                    topic=partition.topic,
                    partition=partition.partition,
                    behind=behind,
                )
                raise ConsumerStuckError(f"{partition.topic}/{partition.partition}")
