"""Topics in tests: what is, or comes to be, in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from aiokafka import ConsumerRecord

from nbledger_infrastructure import settings
from nbledger_infrastructure.kafka import clients
from nbledger_infrastructure.kafka.cloudevents import attributes

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"


@asynccontextmanager
async def reading(config: settings.Settings, *topics: str) -> AsyncIterator[list[Record]]:
    """Collects whatever is, or comes to be, in the topics, of which there may be none yet."""
    found: list[Record] = []
    await clients.ensure_topics(config.kafka, config.worker.kernels)

    async def read() -> None:
        async for message in client:
            found.append(message)  # noqa: PERF401 (it is read while it grows)

    async with clients.consumer(config.kafka, *topics, client_id="test") as client:
        task = asyncio.create_task(read())
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def told_by(message: Record) -> dict[str, str]:
    return attributes(list(message.headers))


async def until(found: Sequence[Record], count: int, *, seconds: float = 30.0) -> None:
    """Wait until ``count`` different messages have come."""
    async with asyncio.timeout(seconds):
        # The consumer tells nobody when it has read something.
        while len({told_by(each)["id"] for each in found}) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
