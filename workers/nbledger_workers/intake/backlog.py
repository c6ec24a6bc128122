"""Commands that a worker has got and not taken yet, by priority."""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition

from nbledger_domain.execution import PRIORITIES, Priority
from nbledger_workers.intake.turns import Turns

LIMIT: Final = 500
"""So many commands of a class are kept; the rest stays with the broker."""

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"


class Backlog:
    """What has come is kept here, so that whatever is more urgent is known when there is room.

    Nothing of it is committed before it is taken: it is the broker's still.
    """

    def __init__(self) -> None:
        self._waiting: dict[Priority, deque[Record]] = {each: deque() for each in PRIORITIES}
        self._filled = asyncio.Event()

    def add(self, priority: Priority, record: Record) -> None:
        """One more."""
        self._waiting[priority].append(record)
        self._filled.set()

    def has_room(self, priority: Priority) -> bool:
        """Whether more of this class should be fetched."""
        return len(self._waiting[priority]) < LIMIT

    async def filled(self) -> None:
        """Wait until there is something."""
        await self._filled.wait()

    def pop(self, turns: Turns, assigned: Collection[TopicPartition]) -> "Record | None":
        """The one whose turn it is; those of partitions that are another worker's now go."""
        for priority in turns.order():
            records = self._waiting[priority]
            while records:
                record = records.popleft()
                if TopicPartition(record.topic, record.partition) in assigned:
                    return record
        self._filled.clear()
        return None
