"""The broker of the run (Tansu, or Apache Kafka where asked for) does what the project needs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from support.services import kafka_name

from nbledger.embedded.errors import ServiceFailedError
from nbledger.embedded.processes import is_alive
from nbledger.embedded.tansu import DEFAULT_PARTITIONS, start_tansu

LIMIT = 30


async def create_topic(servers: str, name: str, partitions: int) -> list[int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    async with asyncio.timeout(LIMIT):
        await admin.start()
        try:
            response = await admin.create_topics([NewTopic(name, partitions, 1)])
            return [topic["error_code"] for topic in response.to_object()["topic_errors"]]
        finally:
            await admin.close()


async def consume(servers: str, topic: str, group: str, count: int) -> list[tuple[object, ...]]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # Tansu waits for a part of the session timeout whenever a group changes. Apache Kafka
        # takes nothing below 6 s.
        session_timeout_ms=6000 if kafka_name() == "apache" else 2000,
        heartbeat_interval_ms=500,
    )
    records: list[tuple[object, ...]] = []
    async with asyncio.timeout(LIMIT):
        await consumer.start()
        try:
            while len(records) < count:
                record = await consumer.getone()
                records.append((record.key, record.value, record.headers))
            await consumer.commit()
        finally:
            await consumer.stop()
    return records


async def test_records_come_back_with_their_headers_and_groups_go_on(
    kafka: str, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}.events"
    assert await create_topic(kafka, topic, 3) == [0]
    assert await create_topic(kafka, topic, 3) == [36]  # exists already

    sent = [
        (
            f"key-{number}".encode(),
            f"value-{number}".encode(),
            (("ce_id", str(number).encode()), ("ce_type", b"notebook.created.v1"), ("none", b"")),
        )
        for number in range(12)
    ]
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    async with asyncio.timeout(LIMIT):
        await producer.start()
        try:
            partitions = set()
            for key, value, headers in sent:
                metadata = await producer.send_and_wait(topic, value, key, headers=list(headers))
                partitions.add(metadata.partition)
        finally:
            await producer.stop()
    assert len(partitions) > 1

    group = f"{topic_prefix}.group"
    assert sorted(await consume(kafka, topic, group, len(sent))) == sorted(sent)

    async with asyncio.timeout(LIMIT):
        async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as more:
            await more.send_and_wait(topic, b"later", b"key-0")
    # The group's offsets were committed: it goes on after the last record.
    assert await consume(kafka, topic, group, 1) == [(b"key-0", b"later", ())]


async def test_tansu_starts_answers_and_stops(tmp_path: Path) -> None:
    broker = await start_tansu(tmp_path / "logs" / "tansu.log")
    process = psutil.Process(broker.pid)
    try:
        assert await create_topic(broker.bootstrap_servers, "here", 1) == [0]
        listening = {connection.laddr.ip for connection in process.net_connections("tcp")}
        assert listening == {"127.0.0.1"}
        port = int(broker.bootstrap_servers.rpartition(":")[2])
        with pytest.raises(ServiceFailedError, match=f"port {port} is taken"):
            await start_tansu(tmp_path / "other.log", port=port)
    finally:
        await broker.stop()
    assert not is_alive(process)
    await broker.stop()


async def test_tansu_makes_a_topic_that_is_asked_for_with_the_partitions_that_we_give(
    tmp_path: Path,
) -> None:
    broker = await start_tansu(tmp_path / "tansu.log")
    try:
        async with (
            asyncio.timeout(LIMIT),
            AIOKafkaConsumer("asked", bootstrap_servers=broker.bootstrap_servers) as subscriber,
        ):
            assert len(subscriber.assignment()) == DEFAULT_PARTITIONS
    finally:
        await broker.stop()
