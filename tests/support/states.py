"""State topics in tests: what they hold, and what they should hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from support.read_models import until_reached

from nbledger_infrastructure.kafka import clients
from nbledger_infrastructure.kafka.cloudevents import attributes
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Kafka, Settings
from nbledger_projections.read_models import dataset_details
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.notebooks import details as notebook_details
from nbledger_projections.state_topics import publisher
from nbledger_projections.state_topics.states import STATES

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"

BESIDE = ("queue", "repetitions", "durationWarning")
"""Members of an execution that no event of its own tells, which a state leaves out."""


def told_by(record: Record) -> dict[str, str]:
    return attributes(list(record.headers))


def topics(kafka: Kafka) -> list[str]:
    return [clients.state_topic(kafka, each.topic) for each in STATES]


async def everything(kafka: Kafka) -> list[Record]:
    """What the state topics hold now, in order for each partition."""
    await clients.ensure_state_topics(kafka, [each.topic for each in STATES])
    found: list[Record] = []
    async with clients.consumer(kafka, client_id="test-states") as client:
        async with asyncio.timeout(60):
            partitions = _partitions(kafka)
            client.assign(partitions)
            await client.seek_to_beginning(*partitions)
            ends = await client.end_offsets(partitions)
            for partition, end in ends.items():
                while await client.position(partition) < end:
                    for records in (await client.getmany(timeout_ms=200)).values():
                        found.extend(records)
    return found


def _partitions(kafka: Kafka) -> list[TopicPartition]:
    return [
        TopicPartition(name, number) for name in topics(kafka) for number in range(kafka.partitions)
    ]


@asynccontextmanager
async def collecting(kafka: Kafka) -> AsyncIterator[list[Record]]:
    """Whatever comes to the state topics while the block lasts."""
    await clients.ensure_state_topics(kafka, [each.topic for each in STATES])
    found: list[Record] = []

    async def read() -> None:
        async for record in client:
            found.append(record)  # noqa: PERF401 (it is read while it grows)

    async with clients.consumer(kafka, *topics(kafka), client_id="test-states") as client:
        task = asyncio.create_task(read())
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def newest(records: Iterable[Record]) -> dict[UUID, Any]:
    """The last document of each key, as a compacted topic keeps it; None where it is deleted."""
    found: dict[UUID, Any] = {}
    for each in records:
        assert each.key is not None
        found[UUID(each.key.decode())] = msgspec.json.decode(each.value) if each.value else None
    return found


def assert_no_older_one_follows(records: Iterable[Record]) -> None:
    last: dict[bytes, int] = {}
    for each in records:
        assert each.key is not None
        position = int(told_by(each)["sequence"])
        assert position >= last.get(each.key, 0), each
        last[each.key] = position


async def read_model(pool: Pool, store: EventStore) -> dict[UUID, Any]:
    """What GET answers of everything that there ever was, by its id; None for what is deleted."""
    found: dict[UUID, Any] = {}
    for event in await store.read_all(after_position=0, limit=100_000):
        kind = event.type.partition(".")[0]
        if kind not in ("notebook", "execution", "dataset") or event.stream_id in found:
            continue
        place = (event.tenant_id, event.project_id, event.subject_id)
        if kind == "notebook":
            view = await notebook_details.get(pool, *place)
            document = None if view is None or view.deletion_requested else view.document
        elif kind == "execution":
            run = await execution_status.get(pool, *place, event.stream_id)
            document = None if run is None else run.document
        else:
            dataset = await dataset_details.get(pool, *place)
            document = None if dataset is None else dataset.document
        told = None if document is None else msgspec.json.decode(document)
        if kind == "execution" and told is not None:
            told = {name: value for name, value in told.items() if name not in BESIDE}
        found[event.stream_id] = told
    return found


async def until_published(pool: Pool, settings: Settings, position: int) -> None:
    """Wait until the state topics show everything up to a position, and lack no document."""
    await until_reached(pool, position, publisher.NAME, seconds=60)
    async with asyncio.timeout(60):
        # Nobody tells of it.
        while await pool.fetchval(  # noqa: ASYNC110
            "SELECT count(*) FILTER (WHERE filled_through IS NULL) < $2 FROM state_topic"
            " WHERE topic = ANY($1)",
            topics(settings.kafka),
            len(STATES),
        ):
            await asyncio.sleep(0.05)
