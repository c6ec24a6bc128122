"""Apache Kafka with TLS, passwords and ACLs: each role and subscriber has its rights alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from support.consumers import NAMES, consumer, environment, missing
from support.event_store import connect
from support.roles import ROLES, check_roles_work, database_users
from support.secured_kafka import RELAY, SEALER, WORKER, SecuredKafka, secured_kafka
from support.services import kafka_name

from nbledger_infrastructure.kafka.clients import BrokerUnavailableError, ensure_topics

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(kafka_name() != "apache", reason="the embedded broker knows no users"),
    pytest.mark.timeout(300),
]

SUBSCRIBER = "billing"
STRANGER = "stranger"
_OF_OTHERS = (
    "read events",
    "publish an event",
    "read commands",
    "publish a command",
    "join the workers",
)
EVENTS = "nbledger.events"
COMMANDS = "nbledger.commands.python3.normal"
CHECKPOINTS = "nbledger.checkpoints"
LINEAGE = "nbledger.lineage"


async def test_roles_and_subscribers_have_their_rights_alone(
    database_dsn: str, tmp_path: Path
) -> None:
    """One broker for all that is to be seen, since starting it takes longer than looking."""
    async with (
        secured_kafka(tmp_path, subscribers=[SUBSCRIBER], strangers=[STRANGER]) as kafka,
        database_users(database_dsn) as dsns,
    ):
        users = {"relay": RELAY, "worker": WORKER, "sealer": SEALER}
        brokers = {name: kafka.environment(user) for name, user in users.items()}
        brokers["relay"] = {**brokers["relay"], "NBLEDGER_LINEAGE_TRANSPORT": "kafka"}
        environments = {
            name: {**brokers.get(name, {}), "NBLEDGER_POSTGRES_DSN": dsns[name]} for name in ROLES
        }

        await check_roles_work(database_dsn, environments, tmp_path)

        await _check_subscriber_reads(kafka)
        await _check_consumers_of_the_examples_read(kafka, tmp_path)
        await _check_subscriber_holds_checkpoints(kafka)
        await _check_subscriber_reads_lineage(kafka)
        assert await _refusals(kafka) == {
            (WORKER, "read events"),
            (WORKER, "publish an event"),
            (WORKER, "publish a command"),
            *((user, "publish a checkpoint") for user in (RELAY, WORKER, SUBSCRIBER, STRANGER)),
            *((user, "publish lineage") for user in (WORKER, SEALER, SUBSCRIBER, STRANGER)),
            *((user, "read lineage") for user in (RELAY, WORKER, SEALER, STRANGER)),
            *((user, "read checkpoints") for user in (RELAY, WORKER, SEALER, STRANGER)),
            *((SEALER, what) for what in _OF_OTHERS),
            (SUBSCRIBER, "publish an event"),
            (SUBSCRIBER, "publish a command"),
            (SUBSCRIBER, "read commands"),
            (SUBSCRIBER, "join the workers"),
            (STRANGER, "read events"),
            (STRANGER, "publish an event"),
            (STRANGER, "publish a command"),
            (STRANGER, "read commands"),
            (STRANGER, "join the workers"),
            (RELAY, "read events"),
            (RELAY, "read commands"),
            (RELAY, "join the workers"),
        }
        await _check_nobody_else_gets_in(kafka)


async def _check_subscriber_reads(kafka: SecuredKafka) -> None:
    # In order for each notebook and each execution only: either may come first.
    wanted = {"nbledger.notebook.deleted.v1", "nbledger.execution.completed.v1"}
    async with (
        asyncio.timeout(60),
        _consumer(kafka, SUBSCRIBER, EVENTS, group_id=f"{SUBSCRIBER}.invoices") as consumer,
    ):
        async for message in consumer:
            wanted.discard(dict(message.headers)["ce_type"].decode())
            if not wanted:
                break


async def _check_consumers_of_the_examples_read(kafka: SecuredKafka, folder: Path) -> None:
    settings = {
        **environment(kafka.settings(SUBSCRIBER), "http://127.0.0.1:1/api/none/none", "none"),
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_CA_FILE": str(kafka.security.ca_file),
        "KAFKA_USERNAME": SUBSCRIBER,
        "KAFKA_PASSWORD": kafka.security.users[SUBSCRIBER],
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "CONSUMER_NAME": SUBSCRIBER,
    }
    for name in NAMES:
        if missing(name):
            continue
        async with consumer(name, folder, settings) as made:
            async with connect(made.dsn) as connection:
                # It has been there before, so it needs nothing but the topic.
                await connection.execute(
                    "INSERT INTO consumer VALUES ($1, 0, $2)", SUBSCRIBER, '{"0": 0}'
                )
            made.start()
            await made.until(5, seconds=60)
            assert made.stop() == [0], made.printed()


async def _check_subscriber_holds_checkpoints(kafka: SecuredKafka) -> None:
    async with (
        asyncio.timeout(60),
        _consumer(kafka, SUBSCRIBER, CHECKPOINTS) as consumer,
    ):
        message = await anext(consumer)
        assert (message.value or b"").startswith((message.key or b"none") + b"\n")


async def _check_subscriber_reads_lineage(kafka: SecuredKafka) -> None:
    states: set[str] = set()
    async with asyncio.timeout(60), _consumer(kafka, SUBSCRIBER, LINEAGE) as consumer:
        while not states >= {"START", "COMPLETE"}:
            message = await anext(consumer)
            states.add(json.loads(message.value or b"{}").get("eventType", ""))


async def _refusals(kafka: SecuredKafka) -> set[tuple[str, str]]:
    tries: dict[str, Callable[[str], Awaitable[None]]] = {
        "read events": lambda user: _read(kafka, user, EVENTS),
        "read commands": lambda user: _read(kafka, user, COMMANDS),
        "publish an event": lambda user: _publish(kafka, user, EVENTS),
        "publish a command": lambda user: _publish(kafka, user, COMMANDS),
        "read checkpoints": lambda user: _read(kafka, user, CHECKPOINTS),
        "publish a checkpoint": lambda user: _publish(kafka, user, CHECKPOINTS),
        "read lineage": lambda user: _read(kafka, user, LINEAGE),
        "publish lineage": lambda user: _publish(kafka, user, LINEAGE),
        "join the workers": lambda user: _join(kafka, user),
    }
    refused = set()
    for user in (RELAY, WORKER, SEALER, SUBSCRIBER, STRANGER):
        for what, attempt in tries.items():
            try:
                await attempt(user)
            except (TopicAuthorizationFailedError, GroupAuthorizationFailedError):
                refused.add((user, what))
    return refused


async def _read(kafka: SecuredKafka, user: str, topic: str) -> None:
    async with _consumer(kafka, user, topic) as consumer:
        await consumer.getmany(timeout_ms=2000)


async def _join(kafka: SecuredKafka, user: str) -> None:
    topic = EVENTS if user == SUBSCRIBER else COMMANDS
    async with _consumer(kafka, user, topic, group_id="nbledger.workers") as consumer:
        await consumer.getmany(timeout_ms=2000)


async def _publish(kafka: SecuredKafka, user: str, topic: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, **kafka.security.client(user)
    )
    try:
        await producer.start()
        # A key of its own, and a value that is no command: whoever may send it does no harm.
        await producer.send_and_wait(topic, b"x", key=b"x")
    finally:
        await producer.stop()


async def _check_nobody_else_gets_in(kafka: SecuredKafka) -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {**kafka.security.client(RELAY), "sasl_plain_password": "guessed"},
        {**kafka.security.client(RELAY), "security_protocol": "SASL_PLAINTEXT"},
    ]
    for options in wrong:
        consumer = AIOKafkaConsumer(
            EVENTS, bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=3000, **options
        )
        try:
            with pytest.raises(KafkaError):
                await consumer.start()
        finally:
            await consumer.stop()
    with pytest.raises(BrokerUnavailableError):
        await ensure_topics(kafka.settings(STRANGER), [])


@asynccontextmanager
async def _consumer(
    kafka: SecuredKafka, user: str, topic: str, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer that reads from the beginning."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        **kafka.security.client(user),
        **options,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
