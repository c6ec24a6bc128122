"""Replays in tests: events to publish again, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

from aiokafka import TopicPartition
from support.event_store import METADATA, new_event
from support.topics import Record, told_by

from nbledger_infrastructure.kafka import clients
from nbledger_infrastructure.postgres.event_store import EventStore, Stream
from nbledger_infrastructure.settings import Settings

TYPE = "notebook.renamed.v1"


async def fill(
    store: EventStore, streams: int, each: int, *, tenant: UUID, project: UUID
) -> list[UUID]:
    """Append to so many streams of a project so many events each."""
    made = [uuid4() for _ in range(streams)]
    for stream_id in made:
        events = [new_event(b'{"name":"%d"}' % number, TYPE) for number in range(each)]
        stream = Stream(stream_id, stream_id, tenant, project)
        await store.append(stream, events, expected_version=0, metadata=METADATA)
    return made


async def messages_in(config: Settings, topic: str, *, events: int) -> list[Record]:
    """Everything that a topic has, which is at least so many events; in order by partition."""
    found: list[Record] = []
    seen: set[str] = set()
    missing: dict[TopicPartition, int] = {}
    async with (
        asyncio.timeout(60),
        clients.consumer(config.kafka, topic, client_id="test") as client,
    ):
        missing = dict(await client.end_offsets(list(client.assignment())))
        while len(seen) < events or any(missing.values()):
            for at, records in (await client.getmany(timeout_ms=200)).items():
                found.extend(records)
                seen.update(told_by(each)["id"] for each in records)
                if records and records[-1].offset + 1 >= missing[at]:
                    missing[at] = 0
    return found


def positions(found: Sequence[Record]) -> list[int]:
    return [int(told_by(each)["position"]) for each in found]


def assert_first_in_order(found: Sequence[Record]) -> None:
    """Those of a stream have come in order, repetitions left out."""
    seen: set[str] = set()
    versions: dict[str, list[int]] = {}
    for message in found:
        told = told_by(message)
        if told["id"] not in seen:
            seen.add(told["id"])
            versions.setdefault(told["subject"], []).append(int(told["streamversion"]))
    for stream, came in versions.items():
        assert came == sorted(came), stream
