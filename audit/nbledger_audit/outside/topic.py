"""The topic of checkpoints: each one that is signed is published, and kept for ever.

Whoever subscribes becomes a holder of checkpoints, against whom nobody can rewrite what they cover.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from nbledger_audit import logs
from nbledger_audit.logs import Signed
from nbledger_audit.outside import deliveries
from nbledger_audit.outside.couriers import Deliver
from nbledger_audit.outside.deliveries import Delivered, Due
from nbledger_infrastructure.kafka.clients import (
    BrokerUnavailableError,
    checkpoints_topic,
    ensure_checkpoints_topic,
    producer,
)
from nbledger_infrastructure.kafka.cloudevents import checkpoint_headers
from nbledger_infrastructure.kafka.event_topic import BrokerForgotError
from nbledger_infrastructure.kafka.messages import Message
from nbledger_infrastructure.kafka.publishing import publish
from nbledger_infrastructure.kafka.topic_ids import topic_ids
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.settings import Kafka

LOGS_AT_ONCE: Final = 200
CHECKPOINTS_AT_ONCE: Final = 200
"""So many of one log at a time."""

ACK_SECONDS: Final = 8.0
"""Seconds for the broker to take them."""

_NOT_YET: Final = datetime.fromtimestamp(0, UTC)


class CheckpointTopic:
    """Publishes checkpoints, those of each log in order, and each at least once.

    A topic that was made anew, in the place of one that the broker has lost, begins with the newest
    checkpoint of each log.
    """

    name = "kafka"
    faults: tuple[type[Exception], ...] = (KafkaError, BrokerUnavailableError, BrokerForgotError)

    def __init__(self, pool: Pool, kafka: Kafka) -> None:
        self._pool = pool
        self._kafka = kafka
        self._topic = checkpoints_topic(kafka)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Deliver]:
        """As of ``Outlet``."""
        await ensure_checkpoints_topic(self._kafka)
        async with producer(self._kafka, client_id="nbledger-sealer") as client:
            yield partial(self._deliver, client)

    async def _deliver(self, client: AIOKafkaProducer) -> bool:
        place = (await topic_ids(client)).get(self._topic)
        if place is None:
            raise BrokerForgotError("the topic of checkpoints is gone")
        messages: list[Message] = []
        have: list[Delivered] = []
        async with acquire(self._pool) as connection:
            due = await deliveries.due(
                connection, self.name, str(place), every_seconds=0.0, limit=LOGS_AT_ONCE
            )
            for each in due:
                found = await _checkpoints(connection, each)
                messages += [self._message(each.tenant_id, signed) for signed in found]
                last = found[-1].size if found else each.size
                confirmed_at = each.confirmed_at if last >= each.size else _NOT_YET
                have.append(Delivered(each.tenant_id, last, confirmed_at))
        if not due:
            return False
        async with asyncio.timeout(ACK_SECONDS):
            await publish(client, messages)
        async with acquire(self._pool) as connection:
            await deliveries.delivered(connection, self.name, str(place), have)
        return len(due) == LOGS_AT_ONCE or any(each.confirmed_at == _NOT_YET for each in have)

    def _message(self, tenant_id: UUID, signed: Signed) -> Message:
        origin, _, _ = signed.note.partition("\n")
        return Message(
            self._topic,
            origin.encode(),
            signed.note.encode(),
            checkpoint_headers(tenant_id, signed.size, signed.confirmed_at),
        )


async def _checkpoints(connection: PooledConnection, due: Due) -> list[Signed]:
    """What is to be published of a log; where it has not grown, its newest checkpoint again."""
    after = due.delivered or (due.size - 1 if due.moved else 0)
    found = await logs.checkpoints_after(connection, due.tenant_id, after, CHECKPOINTS_AT_ONCE)
    if found:
        return found
    newest = await logs.newest(connection, due.tenant_id)
    return [] if newest is None else [newest]
