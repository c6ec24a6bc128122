"""The topic of events, from one that the broker has forgotten to the one in its place.

Subscribers hold an offset, or have none left: for them the offsets go on above those of before, and
the last events are told once more.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from nbledger_infrastructure.kafka.clients import consumer, events_topic
from nbledger_infrastructure.kafka.topic_ids import topic_ids
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.settings import Kafka

REPEATED_EVENTS: Final = 1_000
"""So many of the last events are published again to a topic that was made anew."""

_SAVE = """
INSERT INTO event_topic (topic, topic_id, next_offsets) VALUES ($1, $2, $3)
ON CONFLICT (topic) DO UPDATE
SET topic_id = excluded.topic_id, next_offsets = excluded.next_offsets
"""


_FORGET = """
UPDATE event_topic SET topic_id = '00000000-0000-0000-0000-000000000000' WHERE topic = $1
"""


class BrokerForgotError(Exception):
    """The broker has forgotten what it acknowledged: it was started anew, empty."""


class Acknowledged(msgspec.Struct, frozen=True):
    """A batch that the broker has: its place, and the offset after its last message."""

    topic: str
    partition: int
    offset: int
    next_offset: int


class EventTopic:
    """Which topic of events the broker has, and how far it is.

    ``gaps`` are the offsets that the next batch of a partition has to leave out.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self.name = events_topic(kafka)
        self.gaps: dict[int, int] = {}
        self._id: UUID | None = None
        self._next: dict[int, int] = {}
        self._changed = False

    async def compare(self, connection: PooledConnection, client: AIOKafkaProducer) -> bool:
        """Whether the topic was made anew since it was noted; offsets are then made to go on.

        Raises :class:`BrokerForgotError` when the topic is gone again, or what says that the broker
        is away.
        """
        self._id = (await topic_ids(client)).get(self.name)
        if self._id is None:
            raise BrokerForgotError
        known = await connection.fetchrow(
            "SELECT topic_id, next_offsets FROM event_topic WHERE topic = $1", self.name
        )
        anew: bool = known is not None and known["topic_id"] != self._id
        self._changed = known is None or anew
        if known is None:
            return False
        if self._kafka.keep_offsets:
            self._next = dict(enumerate(known["next_offsets"]))
            self.gaps = await self._missing(client)
        elif not anew:
            self._next = dict(enumerate(known["next_offsets"]))
        return anew

    async def check(self, client: AIOKafkaProducer) -> None:
        """Raise :class:`BrokerForgotError` unless the broker still has the topic compared last.

        A broker that does not answer now has forgotten nothing yet.
        """
        with suppress(KafkaError, TimeoutError, OSError):
            if (await topic_ids(client)).get(self.name) != self._id:
                raise BrokerForgotError

    def took(self, acknowledged: Iterable[Acknowledged]) -> None:
        """The broker has these batches.

        Raises :class:`BrokerForgotError` for one that lies below what the broker had already.
        """
        for each in acknowledged:
            known = self._next.get(each.partition, 0)
            if each.topic != self.name or each.offset < 0:
                continue
            # The first after a gap is told by where the gap begins.
            if each.offset < known and each.partition not in self.gaps:
                raise BrokerForgotError
            if each.next_offset > known:
                self._next[each.partition] = each.next_offset
                self._changed = True
                self.gaps.pop(each.partition, None)

    async def note(self, connection: PooledConnection) -> None:
        """Write down what the broker has, if that has changed."""
        if self._changed and self._id is not None:
            offsets = [self._next.get(each, 0) for each in range(max(self._next, default=-1) + 1)]
            await connection.execute(_SAVE, self.name, self._id, offsets)
            self._changed = False

    async def forget(self, connection: PooledConnection) -> None:
        """Let the next comparison find the topic made anew: its log ends below what was noted."""
        await connection.execute(_FORGET, self.name)

    async def _missing(self, client: AIOKafkaProducer) -> dict[int, int]:
        # Tansu may tell an end that is too low by a batch; that leaves out more than is needed.
        partitions = [
            TopicPartition(self.name, each) for each in await client.partitions_for(self.name)
        ]
        async with consumer(self._kafka, client_id="nbledger-relay") as asking:
            ends = await asking.end_offsets(partitions)
        gaps = {at.partition: self._next.get(at.partition, 0) - end for at, end in ends.items()}
        return {partition: gap for partition, gap in gaps.items() if gap > 0}
