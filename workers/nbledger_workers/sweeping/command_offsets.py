"""Where the logs of commands begin and end: one that has lost messages is found by that.

A topic keeps its id when records are deleted from it, or when a replica that was behind becomes its
leader. Then the log begins later than before, or ends earlier. What the looks of this process have
seen is enough: what was deleted before the first one, workers find in the store.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Final, TypeAlias
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

ASK_SECONDS: Final = 10.0
"""How often the broker is asked."""

_ANSWER_SECONDS: Final = 10.0

Extents: TypeAlias = Mapping[tuple[UUID, int], tuple[int, int]]
"""Begin and end of each partition, by the id of its topic."""


class CommandOffsets:
    """Compares where logs begin and end with what was seen before."""

    def __init__(self) -> None:
        self._seen: Extents = {}
        self._due = float("-inf")

    async def ask(
        self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, ids: Mapping[str, UUID]
    ) -> Extents:
        """Where the logs of topics begin and end now; what was seen last when it is too early.

        Raises ``KafkaError`` or ``TimeoutError`` when the broker does not answer.
        """
        now = time.monotonic()
        if now < self._due:
            return self._seen
        async with asyncio.timeout(_ANSWER_SECONDS):
            partitions = [
                TopicPartition(topic, partition)
                for topic in ids
                for partition in await producer.partitions_for(topic)
            ]
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
        self._due = now + ASK_SECONDS
        return {(ids[each.topic], each.partition): (begins[each], ends[each]) for each in ends}

    def shortened(self, extents: Extents) -> Collection[UUID]:
        """The topics that have lost messages since they were seen last."""
        found = set[UUID]()
        for place, (begin, end) in extents.items():
            before = self._seen.get(place)
            if before is not None and (begin > before[0] or end < before[1]):
                found.add(place[0])
        return found

    def saw(self, extents: Extents) -> None:
        """Compare with these from now on: what was lost until then has been seen to."""
        self._seen = extents
