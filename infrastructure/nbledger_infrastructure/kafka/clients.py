"""Kafka through aiokafka: topics, producers and consumers, set up alike in every process."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from aiokafka.helpers import create_ssl_context

from nbledger_domain.execution import PRIORITIES, Priority
from nbledger_infrastructure.kafka import aiokafka_internals
from nbledger_infrastructure.settings import Kafka

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 15.0
"""Seconds to reach the broker when a client starts."""

STOP_TIMEOUT = 5.0
"""Seconds to leave in good order; aiokafka waits for ever while the broker is down."""

MAX_MESSAGE_BYTES = 1_000_000
"""What every broker takes without being told."""

STATE_LAG_MS = 24 * 3_600_000
"""After this time, in milliseconds, a broker removes from state topics what was replaced."""


class BrokerUnavailableError(Exception):
    """The Kafka broker cannot be reached, or does not answer in time."""


class TopicRefusedError(BrokerUnavailableError):
    """The broker answers, and does not create a topic."""


def events_topic(kafka: Kafka) -> str:
    """Where every event is published."""
    return f"{kafka.topic_prefix}.events"


def replay_topics(kafka: Kafka) -> str:
    """What the names of topics begin with that are for events published again."""
    return f"{kafka.topic_prefix}.replay."


def checkpoints_topic(kafka: Kafka) -> str:
    """Where every checkpoint of a tenant's log is published."""
    return f"{kafka.topic_prefix}.checkpoints"


def lineage_topic(kafka: Kafka) -> str:
    """Where documents of OpenLineage are published, if they are told by Kafka."""
    return f"{kafka.topic_prefix}.lineage"


def publishes_states(kafka: Kafka) -> bool:
    """Whether there are state topics.

    By default there are none on a broker that keeps in memory all that it was ever sent.
    """
    return not kafka.keep_offsets if kafka.state_topics == "auto" else kafka.state_topics == "on"


def state_topic(kafka: Kafka, state: str) -> str:
    """Where the newest documents of this kind are, such as ``notebook-state``."""
    return f"{kafka.topic_prefix}.{state}"


def command_topic(kafka: Kafka, kernel_type: str, priority: Priority) -> str:
    """Where workers that offer this kernel type get their commands of this priority."""
    return f"{kafka.topic_prefix}.commands.{kernel_type}.{priority.lower()}"


def command_routes(kafka: Kafka, topics: Iterable[str]) -> dict[str, tuple[str, Priority]]:
    """Those of ``topics`` that are for commands, each with its kernel type and priority."""
    prefix = f"{kafka.topic_prefix}.commands."
    priorities: dict[str, Priority] = {priority.lower(): priority for priority in PRIORITIES}
    routes: dict[str, tuple[str, Priority]] = {}
    for topic in topics:
        kernel_type, _, priority = topic.removeprefix(prefix).rpartition(".")
        if topic.startswith(prefix) and kernel_type and priority in priorities:
            routes[topic] = (kernel_type, priorities[priority])
    return routes


def control_topic(kafka: Kafka) -> str:
    """What every worker reads: requests that concern whichever worker is running something."""
    return f"{kafka.topic_prefix}.control"


def worker_group(kafka: Kafka) -> str:
    """The consumer group that all workers share."""
    return f"{kafka.topic_prefix}.workers"


async def ensure_topics(kafka: Kafka, kernel_types: Iterable[str], *, events: bool = True) -> None:
    """Create the topics that are missing. Raises :class:`BrokerUnavailableError`.

    Workers leave the topic of ``events`` out: they have no right to see it.
    """
    wanted = {control_topic(kafka): 1}
    if events:
        wanted[events_topic(kafka)] = kafka.partitions
    wanted |= {
        command_topic(kafka, kernel_type, priority): kafka.command_partitions
        for kernel_type in kernel_types
        for priority in PRIORITIES
    }
    await _ensure(kafka, wanted, {"retention.ms": str(kafka.retention_hours * 3_600_000)})


async def ensure_replay_topic(kafka: Kafka, topic: str) -> None:
    """Create a topic for events that are published again, with as many partitions as theirs.

    Raises :class:`BrokerUnavailableError`, and :class:`TopicRefusedError` for its name.
    """
    retention = {"retention.ms": str(kafka.retention_hours * 3_600_000)}
    await _ensure(kafka, {topic: kafka.partitions}, retention)


async def ensure_lineage_topic(kafka: Kafka) -> None:
    """Create the topic of lineage where it is missing. Raises :class:`BrokerUnavailableError`."""
    kept = {"retention.ms": str(kafka.retention_hours * 3_600_000)}
    await _ensure(kafka, {lineage_topic(kafka): kafka.partitions}, kept)


async def ensure_checkpoints_topic(kafka: Kafka) -> None:
    """Create the topic of checkpoints, which keeps them for ever, where it is missing.

    Raises :class:`BrokerUnavailableError`.
    """
    for_ever = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
    await _ensure(kafka, {checkpoints_topic(kafka): 1}, for_ever)


async def ensure_state_topics(kafka: Kafka, states: Iterable[str]) -> None:
    """Create the topics of these states, which keep the newest record of each key, where missing.

    What a newer record has replaced goes within a day, and records of deletions after as long as
    events are kept. Raises :class:`BrokerUnavailableError`.
    """
    wanted = {state_topic(kafka, each): kafka.partitions for each in states}
    newest = {
        "cleanup.policy": "compact",
        "max.compaction.lag.ms": str(STATE_LAG_MS),
        "delete.retention.ms": str(kafka.retention_hours * 3_600_000),
    }
    await _ensure(kafka, wanted, newest)


async def _ensure(kafka: Kafka, wanted: Mapping[str, int], configs: Mapping[str, str]) -> None:
    """Create topics that are missing, each with so many partitions."""
    admin = AIOKafkaAdminClient(**_connection(kafka))
    connections = aiokafka_internals.Connections()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            with connections.owned():
                await admin.start()
                missing = set(wanted) - set(await admin.list_topics())
                if missing:
                    answer: Any = await admin.create_topics(
                        [
                            NewTopic(
                                name,
                                num_partitions=wanted[name],
                                replication_factor=kafka.replication_factor,
                                topic_configs=dict(configs),
                            )
                            for name in sorted(missing)
                        ]
                    )
                    _check_created(answer.topic_errors)
                    log.info("topics created", topics=sorted(missing))
    except (KafkaError, TimeoutError, OSError) as error:
        raise BrokerUnavailableError("topics cannot be created") from error
    finally:
        await _end(admin, connections)


def _check_created(topic_errors: list[tuple[Any, ...]]) -> None:
    for name, code, *message in topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopicRefusedError(f"topic {name}: error {code} {message}")


@asynccontextmanager
async def producer(kafka: Kafka, *, client_id: str) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer that waits for all replicas; stopped, within bounds, at the end.

    Raises :class:`BrokerUnavailableError` when the broker cannot be reached.
    """
    client = AIOKafkaProducer(
        **_connection(kafka),
        client_id=client_id,
        acks="all",
        enable_idempotence=kafka.idempotent,
        linger_ms=0,
        max_batch_size=256 * 1024,
        max_request_size=MAX_MESSAGE_BYTES + 64 * 1024,
    )
    async with _started(client):
        yield client


@asynccontextmanager
async def consumer(
    kafka: Kafka, *topics: str, client_id: str, group_id: str | None = None, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer; offsets are committed by hand. Stopped, within bounds, at the end.

    ``options`` go to ``AIOKafkaConsumer``. Raises :class:`BrokerUnavailableError`.
    """
    client = AIOKafkaConsumer(
        *topics,
        **_connection(kafka),
        client_id=client_id,
        group_id=group_id,
        **({"enable_auto_commit": False, "auto_offset_reset": "earliest"} | options),
    )
    async with _started(client):
        yield client


@asynccontextmanager
async def _started(client: AIOKafkaProducer | AIOKafkaConsumer) -> AsyncIterator[None]:
    connections = aiokafka_internals.Connections()
    try:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                with connections.owned():
                    await client.start()
        except (KafkaError, TimeoutError, OSError) as error:
            raise BrokerUnavailableError("the Kafka broker cannot be reached") from error
        yield
    finally:
        await _end(client, connections)


async def _end(
    client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient,
    connections: aiokafka_internals.Connections,
) -> None:
    """End a client with all its connections and tasks, within bounds, also when cancelled."""
    ending = asyncio.create_task(_stop(client, connections))
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.wait({ending})
        except asyncio.CancelledError as error:
            # Cut short it would leave something behind.
            cancelled = error
    ending.result()
    if cancelled is not None:
        raise cancelled


async def _stop(
    client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient,
    connections: aiokafka_internals.Connections,
) -> None:
    admin = isinstance(client, AIOKafkaAdminClient)
    stopping = asyncio.create_task(client.close() if admin else client.stop())
    await asyncio.wait({stopping}, timeout=STOP_TIMEOUT)
    in_order = stopping.done()
    connections.cut()
    if not in_order:
        # It waits for the broker. With its connections gone there is nothing to wait for, and
        # it ends as it should.
        if isinstance(client, AIOKafkaProducer):
            await aiokafka_internals.give_up_sending(client, STOP_TIMEOUT)
        await asyncio.wait({stopping}, timeout=STOP_TIMEOUT)
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=STOP_TIMEOUT)
    failed = not stopping.done() or stopping.cancelled() or stopping.exception() is not None
    if failed or not in_order:
        log.warning("kafka client did not stop in order", client=type(client).__name__)
    if failed:
        # It may have left out the last step.
        closing = asyncio.create_task(aiokafka_internals.network(client).close())
        await asyncio.wait({closing}, timeout=STOP_TIMEOUT)
    await connections.wait_closed(STOP_TIMEOUT)


def _connection(kafka: Kafka) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": 15_000,
        "retry_backoff_ms": 100,
    }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = create_ssl_context(cafile=kafka.ca_file or None)
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.username
        options["sasl_plain_password"] = kafka.password
    return options
