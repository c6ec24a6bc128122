"""Kafka through aiokafka: topics, producers and consumers, set up alike in every process."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from aiokafka.helpers import create_ssl_context
from aiokafka.producer.message_accumulator import MessageAccumulator

from nbledger_infrastructure.settings import Kafka

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 15.0
"""Seconds to reach the broker when a client starts."""

STOP_TIMEOUT = 5.0
"""Seconds to leave in good order; aiokafka waits for ever while the broker is down."""

MAX_MESSAGE_BYTES = 1_000_000
"""What every broker takes without being told."""


class BrokerUnavailableError(Exception):
    """The Kafka broker cannot be reached, or does not answer in time."""


def events_topic(kafka: Kafka) -> str:
    """Where every event is published."""
    return f"{kafka.topic_prefix}.events"


def command_topic(kafka: Kafka, kernel_type: str) -> str:
    """Where workers that offer this kernel type get their commands."""
    return f"{kafka.topic_prefix}.commands.{kernel_type}"


def control_topic(kafka: Kafka) -> str:
    """What every worker reads: requests that concern whichever worker is running something."""
    return f"{kafka.topic_prefix}.control"


def worker_group(kafka: Kafka) -> str:
    """The consumer group that all workers share."""
    return f"{kafka.topic_prefix}.workers"


async def ensure_topics(kafka: Kafka, kernel_types: Iterable[str]) -> None:
    """Create the topics that are missing. Raises :class:`BrokerUnavailableError`."""
    retention = {"retention.ms": str(kafka.retention_hours * 3_600_000)}
    wanted = {events_topic(kafka): kafka.partitions, control_topic(kafka): 1}
    wanted |= {command_topic(kafka, kernel_type): kafka.partitions for kernel_type in kernel_types}
    admin = AIOKafkaAdminClient(**_connection(kafka))
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await admin.start()
            missing = set(wanted) - set(await admin.list_topics())
            if missing:
                answer: Any = await admin.create_topics(
                    [
                        NewTopic(
                            name,
                            num_partitions=wanted[name],
                            replication_factor=kafka.replication_factor,
                            topic_configs=retention,
                        )
                        for name in sorted(missing)
                    ]
                )
                _check_created(answer.topic_errors)
                log.info("topics created", topics=sorted(missing))
    except (KafkaError, TimeoutError, OSError) as error:
        raise BrokerUnavailableError("topics cannot be created") from error
    finally:
        await _close(admin.close())


def _check_created(topic_errors: list[tuple[Any, ...]]) -> None:
    for name, code, *message in topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise KafkaError(f"topic {name}: error {code} {message}")


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
    await _start(client)
    try:
        yield client
    finally:
        await _stop_producer(client)


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
    await _start(client)
    try:
        yield client
    finally:
        await _close(client.stop())


async def _start(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await client.start()
    except (KafkaError, TimeoutError, OSError) as error:
        await _close(client.stop())
        raise BrokerUnavailableError("the Kafka broker cannot be reached") from error
    except BaseException:
        # Cancelled while it connects: its connections and tasks would stay.
        await _close(client.stop())
        raise


async def _stop_producer(client: AIOKafkaProducer) -> None:
    if await _close(client.stop()):
        return
    # It has been given up in the middle of its flush, and its tasks would go on: whenever the
    # broker is back they would send what is left, after what the next producer has sent since.
    # Cut its connections, or its requests under way would be waited for.
    _give_up_all(client._message_accumulator)  # noqa: SLF001 (there is no public way)
    await _close(client.client.close())
    if client._sender is not None:  # noqa: SLF001
        await _close(client._sender.close())  # noqa: SLF001


def _give_up_all(accumulator: MessageAccumulator) -> None:
    waiting = [batch for lane in accumulator._batches.values() for batch in lane]  # noqa: SLF001
    waiting += accumulator._pending_batches  # noqa: SLF001
    accumulator.fail_all(KafkaError("given up"))
    for batch in waiting:
        if batch.future.done() and not batch.future.cancelled():
            batch.future.exception()  # nobody else will ask for it


async def _close(closing: Coroutine[Any, Any, None]) -> bool:
    """Wait for what ends a client, within bounds; whether it did."""
    ending = asyncio.create_task(closing)
    try:
        await asyncio.wait({ending}, timeout=STOP_TIMEOUT)
    except asyncio.CancelledError:
        # Cut short it would leave its connections open.
        await asyncio.wait({ending}, timeout=STOP_TIMEOUT)
        raise
    finally:
        if not ending.done():
            ending.cancel()
            await asyncio.wait({ending})
    try:
        ending.result()
    except (KafkaError, OSError, asyncio.CancelledError) as error:
        log.warning("kafka client did not stop in order", error=repr(error))
        return False
    return True


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
