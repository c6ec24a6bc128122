"""What the relay publishes, as text."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from aiokafka import TopicPartition
from support.read_models import running, until_reached

from nbledger_infrastructure.kafka import clients, relay
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.settings import Kafka, Settings


async def everything_published(config: Settings, pool: Pool, head: int) -> str:
    """Run a relay until the events up to ``head`` are published: all messages on all topics."""
    events = clients.events_topic(config.kafka)
    await clients.ensure_topics(config.kafka, config.worker.kernels)
    topics = [events, clients.control_topic(config.kafka)]
    found: list[str] = []
    positions: set[int] = set()
    async with (
        clients.consumer(config.kafka, *topics, client_id="test") as client,
        running(relay.run, config),
    ):
        await until_reached(pool, head, relay.NAME)
        async with asyncio.timeout(30):
            while len(positions) < head:
                message = await client.getone()
                headers = dict(message.headers)
                if message.topic == events:
                    positions.add(int(headers["ce_position"]))
                found.append(repr((message.key, message.value, message.headers)))
    return "\n".join(found)


async def everything_on_topics(kafka: Kafka) -> dict[str, bytes]:
    """What a broker keeps on all topics of the service, by topic and part of a message."""
    found: dict[str, bytearray] = defaultdict(bytearray)
    async with clients.consumer(kafka, client_id="test") as client:
        topics = [each for each in await client.topics() if each.startswith(kafka.topic_prefix)]
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in client.partitions_for_topic(topic) or ()
        ]
        for topic in topics:
            found[f"{topic} name"] += topic.encode()
        client.assign(partitions)
        await client.seek_to_beginning(*partitions)
        ends = await client.end_offsets(partitions)
        async with asyncio.timeout(60):
            for partition, end in ends.items():
                while await client.position(partition) < end:
                    for messages in (await client.getmany(timeout_ms=500)).values():
                        for each in messages:
                            found[f"{each.topic} key"] += each.key or b""
                            found[f"{each.topic} value"] += each.value or b""
                            found[f"{each.topic} headers"] += repr(each.headers).encode()
    return {place: bytes(content) for place, content in found.items()}
