"""Publishing many messages at once, in order for each partition."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from nbledger_infrastructure.kafka.aiokafka_internals import leave_out
from nbledger_infrastructure.kafka.event_topic import Acknowledged
from nbledger_infrastructure.kafka.messages import Message


async def publish(
    client: AIOKafkaProducer,
    messages: Sequence[Message],
    gaps: Mapping[tuple[str, int], int] | None = None,
) -> list[Acknowledged]:
    """Send all of ``messages`` and wait until the broker has them; raises what any of them met.

    Returns where it has put each batch, those of a partition in order. The first message of a
    partition leaves out as many offsets as ``gaps`` says, as in a log that was compacted.

    They are laid into batches here, with one acknowledgement each to wait for: sent one by one
    they cost the producer several times as much. The order within a partition is kept.
    """
    lanes: dict[tuple[str, int], list[BatchBuilder]] = {}
    partitions: dict[str, list[int]] = {}
    for message in messages:
        topic = message.topic
        if topic not in partitions:
            partitions[topic] = sorted(await client.partitions_for(topic))
        place = (topic, _partition(message.key, partitions[topic]))
        lane = lanes.setdefault(place, [])
        if not lane or not _add(lane[-1], message):
            lane.append(client.create_batch())
            if gaps and len(lane) == 1:
                leave_out(lane[-1], gaps.get(place, 0))
            _add(lane[-1], message)
    sending = [
        asyncio.create_task(_send(client, topic, partition, batches))
        for (topic, partition), batches in lanes.items()
    ]
    try:
        acknowledged = await asyncio.gather(*sending)
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    return [each for lane in acknowledged for each in lane]


def _add(batch: BatchBuilder, message: Message) -> bool:
    """Whether there was room; in an empty batch there is for any message."""
    added = batch.append(
        timestamp=None, key=message.key, value=message.value, headers=message.headers
    )
    return added is not None


async def _send(
    client: AIOKafkaProducer, topic: str, partition: int, batches: Sequence[BatchBuilder]
) -> list[Acknowledged]:
    acknowledged: list[Acknowledged] = []
    for batch in batches:
        batch.close()
        told = await (await client.send_batch(batch, topic, partition=partition))
        following = told.offset + batch.record_count() if told.offset >= 0 else -1
        acknowledged.append(Acknowledged(topic, partition, told.offset, following))
    return acknowledged


def _partition(key: bytes | None, partitions: Sequence[int]) -> int:
    """Where Kafka's own clients would put it; anywhere without a key."""
    if key is None:
        return random.choice(partitions)  # noqa: S311 (no secret)
    return partitions[_hash(key) % len(partitions)]


@lru_cache(maxsize=2_048)
def _hash(key: bytes) -> int:
    # Dear in Python, and a stream has many events.
    hashed: int = murmur2(key)
    return hashed & 0x7FFF_FFFF
