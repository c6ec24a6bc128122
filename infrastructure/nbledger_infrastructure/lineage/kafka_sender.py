"""Documents on a topic, keyed as the clients of OpenLineage key them."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from nbledger_domain.lineage.facts import Document
from nbledger_infrastructure.kafka.clients import (
    BrokerUnavailableError,
    ensure_lineage_topic,
    lineage_topic,
    producer,
)
from nbledger_infrastructure.kafka.messages import Message
from nbledger_infrastructure.kafka.publishing import publish
from nbledger_infrastructure.lineage.sending import ReceiverAwayError, encoded
from nbledger_infrastructure.settings import Kafka

ACK_SECONDS: Final = 8.0
"""Less than aiokafka's own limit, after which it drops a message and goes on to the next one."""


class KafkaSender:
    """Publishes with a producer that is made when it is needed, and anew after a failure."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._topic = lineage_topic(kafka)
        self._stack = AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        self._producer = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def send(self, told: Sequence[Document]) -> None:
        """Publish all of ``told``, in order for each key."""
        messages = [Message(self._topic, each.key.encode(), encoded(each), []) for each in told]
        try:
            client = await self._connected()
            async with asyncio.timeout(ACK_SECONDS):
                await publish(client, messages)
        except (BrokerUnavailableError, KafkaError, OSError) as error:
            await self.aclose()
            raise ReceiverAwayError(repr(error)) from error

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            await ensure_lineage_topic(self._kafka)
            self._producer = await self._stack.enter_async_context(
                producer(self._kafka, client_id="nbledger-lineage")
            )
        return self._producer
