"""Where the logs of commands begin and end: one that has lost messages is found by that.

A topic keeps its id when records are deleted from it, or when a replica that was behind becomes its
leader. Then the log begins later than before, or ends earlier. What the looks of this process have
seen is enough: what was deleted before the first one, workers find in the store.

A log that has served for long begins later all the time, as the broker keeps records only for so
long. That loses nothing unless a run waits whose command is older than what the log begins with.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from nbledger_infrastructure import clock

ASK_SECONDS: Final = 10.0
"""How often the broker is asked."""

_ANSWER_SECONDS: Final = 10.0
_ENDS_KEPT: Final = 64
"""Ends that are remembered of a partition; of more, every second one is forgotten."""

Extents: TypeAlias = Mapping[tuple[UUID, int], tuple[int, int]]
"""Begin and end of each partition, by the id of its topic."""


class CommandOffsets:
    """Compares where logs begin and end with what was seen before."""

    def __init__(self) -> None:
        self._seen: Extents = {}
        self._ends: dict[tuple[UUID, int], list[tuple[int, datetime]]] = {}
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

    def shortened(self, extents: Extents) -> Mapping[UUID, Mapping[int, datetime]]:
        """The topics that have less than when they were seen last.

        Each with the partitions that begin later, and a moment at which all that is deleted there
        had been published; with none when one ends earlier, so that any message may be lost.
        """
        later: dict[UUID, dict[int, datetime]] = {}
        cut = set[UUID]()
        for (topic_id, partition), (begin, end) in extents.items():
            before = self._seen.get((topic_id, partition))
            if before is None:
                continue
            if end < before[1]:
                cut.add(topic_id)
            elif begin > before[0]:
                published = (at for e, at in self._ends[topic_id, partition] if e >= begin)
                later.setdefault(topic_id, {})[partition] = next(published, clock.now())
        return {**later, **{topic_id: {} for topic_id in cut}}

    def saw(self, extents: Extents) -> None:
        """Compare with these from now on: what was lost until then has been seen to."""
        now = clock.now()
        for place, (_, end) in extents.items():
            ends = self._ends.setdefault(place, [])
            if ends and end < ends[-1][0]:
                ends.clear()
            if not ends or end > ends[-1][0]:
                ends.append((end, now))
            if len(ends) > _ENDS_KEPT:
                del ends[-2::-2]
        self._ends = {place: self._ends[place] for place in extents}
        self._seen = extents


async def lost_before(
    consumer: AIOKafkaConsumer, topic: str, published: Mapping[int, datetime]
) -> datetime:
    """The moment before which messages of these partitions were deleted, as far as can be told.

    The first one that is left tells it, or what is known of when they were ``published``. It is
    now for no partitions. Raises ``KafkaError`` or ``TimeoutError`` when no broker answers.
    """
    if not published:
        return clock.now()
    async with asyncio.timeout(_ANSWER_SECONDS):
        firsts = await consumer.offsets_for_times({TopicPartition(topic, n): 0 for n in published})
    moments = []
    for at, first in firsts.items():
        moment = published[at.partition]
        # A broker may answer for an empty partition with a time that is none.
        if first is not None and first.timestamp >= 0:
            moment = min(moment, datetime.fromtimestamp(first.timestamp / 1000, UTC))
        moments.append(moment)
    return max(moments)
