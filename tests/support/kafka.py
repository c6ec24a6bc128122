"""What the relay publishes, as text."""

from __future__ import annotations

import asyncio

from support.read_models import running, until_reached

from nbledger_infrastructure.kafka import clients, relay
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.settings import Settings


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
