"""The undocumented members of aiokafka that we use are there, and do what we take them to do.

A failure here names what a new version of aiokafka has changed;
`nbledger_infrastructure.kafka.aiokafka_internals` is the one place to mend.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import aiokafka.client
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.producer.sender import Sender
from support.services import service_address

from nbledger_infrastructure.kafka import aiokafka_internals
from nbledger_infrastructure.kafka.topic_ids import topic_ids

LIMIT = 30
NAME = f"aiokafka {version('aiokafka')}"


def member(owner: object, name: str, kind: type | tuple[type, ...]) -> Any:
    """The member; fails with its name when it is missing or of another kind."""
    of = f"{type(owner).__name__}.{name}"
    assert hasattr(owner, name), f"{NAME} has no {of} anymore"
    found = getattr(owner, name)
    assert isinstance(found, kind), f"{NAME}: {of} is now a {type(found).__name__}"
    return found


def takes(function: Callable[..., object], *arguments: object, **options: object) -> None:
    """Fail with the function's name when it cannot be called so."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        pytest.fail(f"{NAME}: {function.__qualname__} cannot be called as before: {error}")


async def create_topic(servers: str, name: str) -> None:
    """Make the topic: not every broker makes one that is asked for."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    async with asyncio.timeout(LIMIT):
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1)])
        finally:
            await admin.close()


async def test_members_are_there_and_of_their_kind(kafka: str, topic_prefix: str) -> None:
    await create_topic(kafka, topic_prefix)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=False, linger_ms=2_000)
    consumer = AIOKafkaConsumer(topic_prefix, bootstrap_servers=kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    async with asyncio.timeout(LIMIT), producer, consumer:
        await admin.start()
        try:
            member(producer, "client", AIOKafkaClient)
            member(consumer, "_client", AIOKafkaClient)
            member(admin, "_client", AIOKafkaClient)
            sender = member(producer, "_sender", Sender)
            member(sender, "sender_task", asyncio.Task)
            accumulator = member(producer, "_message_accumulator", MessageAccumulator)
            member(accumulator, "_pending_batches", set)
            member(accumulator, "_batches", dict)
            takes(accumulator.fail_all, KafkaError("given up"))
            # One that waits to be sent.
            await producer.partitions_for(topic_prefix)
            await producer.send(topic_prefix, b"value", partition=0)
            batch = accumulator._batches[TopicPartition(topic_prefix, 0)][0]
            assert isinstance(batch, MessageBatch)
            for future in ("future", "_drain_waiter"):
                member(batch, future, asyncio.Future)
            for client in (producer, consumer, admin):
                network = aiokafka_internals.network(client)
                takes(network.ready, 0)
                takes(network.send, 0, object())
                node = network.get_random_node()
                assert await network.ready(node), (
                    f"{NAME}: the node of get_random_node is not ready"
                )
                assert isinstance(await topic_ids(client), dict)
        finally:
            await admin.close()


async def test_what_a_client_connects_is_seen_and_can_be_cut(kafka: str) -> None:
    takes(create_conn, "localhost", 9092, client_id="test")
    assert "create_conn(" in inspect.getsource(AIOKafkaClient), (
        f"{NAME}: clients do not connect by aiokafka.client.create_conn anymore"
    )
    assert aiokafka.client.create_conn is not create_conn, "it is replaced when we are imported"
    connections = aiokafka_internals.Connections()
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    async with asyncio.timeout(LIMIT):
        try:
            with connections.owned():
                await client.start()
                await topic_ids(client)
            seen = [connection for connection, _ in connections._open]
            for connection in seen:
                assert isinstance(connection, AIOKafkaConnection)
                member(connection, "_closed_fut", asyncio.Future)
            live = [connection for connection in seen if connection.connected()]
            assert live, f"{NAME}: a client has connected past create_conn"
            member(member(live[0], "_writer", asyncio.StreamWriter), "transport", object)
            connections.cut()
            await connections.wait_closed(LIMIT)
            assert not any(connection.connected() for connection in seen)
            with pytest.raises(KafkaConnectionError, match="given up"):
                await connections.connect("127.0.0.1", 1)
        finally:
            await client.close()


async def test_offsets_can_be_left_out(topic_prefix: str) -> None:
    # On the broker of `nbledger up` alone: it is done for that one, and Apache Kafka takes no gap.
    kafka = service_address("tansu")
    partition = TopicPartition(f"{topic_prefix}.gap", 0)
    async with (
        asyncio.timeout(LIMIT),
        AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=False) as producer,
        AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer,
    ):
        await producer.partitions_for(partition.topic)
        batch = producer.create_batch()
        member(batch, "_relative_offset", int)
        aiokafka_internals.leave_out(batch, 40)
        for value in (b"a", b"b"):
            batch.append(timestamp=None, key=None, value=value)
        batch.close()
        await (await producer.send_batch(batch, partition.topic, partition=0))
        consumer.assign([partition])
        found = [await consumer.getone() for _ in range(2)]
        assert [each.offset for each in found] == [40, 41], f"{NAME}: a gap is not taken"


async def test_what_was_not_sent_fails_when_a_producer_is_given_up(
    kafka: str, topic_prefix: str
) -> None:
    await create_topic(kafka, topic_prefix)
    connections = aiokafka_internals.Connections()
    producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=False, linger_ms=60_000)
    async with asyncio.timeout(LIMIT):
        with connections.owned():
            await producer.start()
        await producer.partitions_for(topic_prefix)
        sent = await producer.send(topic_prefix, b"never", partition=0)
        connections.cut()
        await aiokafka_internals.give_up_sending(producer, LIMIT)
        with pytest.raises(KafkaError, match="given up"):
            await sent
        await producer.stop()
        await connections.wait_closed(LIMIT)
