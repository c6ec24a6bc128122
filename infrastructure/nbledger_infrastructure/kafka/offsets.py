"""Noticing by its offsets that a broker has forgotten its topics."""

import asyncio
from collections.abc import Sequence

from aiokafka import TopicPartition

from nbledger_infrastructure.kafka.clients import consumer
from nbledger_infrastructure.kafka.event_topic import Acknowledged, BrokerForgotError
from nbledger_infrastructure.settings import Kafka

ASK_TIMEOUT = 8.0
"""Seconds for the broker to tell how far its partitions are."""


class Offsets:
    """Notices a broker that was started anew and has forgotten its topics.

    To one that keeps everything in memory a producer may reconnect without noticing, and what it
    then sends to a topic that is no more is acknowledged and lost. But its offset begins anew.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._last: dict[TopicPartition, int] = {}

    async def check(self, acknowledged: Sequence[Acknowledged]) -> None:
        """Raise :class:`BrokerForgotError` unless the broker still has what it acknowledged."""
        new: dict[TopicPartition, int] = {}
        for each in acknowledged:
            if each.offset < 0:
                continue  # an idempotent producer's repetition: it does not tell where
            partition = TopicPartition(each.topic, each.partition)
            if partition not in self._last:
                new.setdefault(partition, each.offset)
            elif each.offset <= self._last[partition]:
                raise BrokerForgotError
            self._last[partition] = each.offset
        if new:
            # Nothing to compare with: ask, once for each partition.
            async with (
                asyncio.timeout(ASK_TIMEOUT),
                consumer(self._kafka, client_id="nbledger-relay") as client,
            ):
                ends = await client.end_offsets(list(new))
            if any(ends[partition] <= offset for partition, offset in new.items()):
                raise BrokerForgotError
