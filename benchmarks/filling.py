"""Filling the event store through its own appends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from uuid import UUID

from benchmarks.history import StreamHistory
from nbledger_domain.events import encode
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, NewEvent, Stream

METADATA = Metadata(actor="bench")
_CONCURRENT = 1024  # two full batches of the group commit: one is written while one gathers


async def append_all(
    store: EventStore, histories: Iterable[StreamHistory], tenant_id: UUID, project_id: UUID
) -> int:
    """Append every history as a new stream; returns the number of events."""
    remaining: Iterator[StreamHistory] = iter(histories)
    count = 0

    async def appender() -> None:
        nonlocal count
        for history in remaining:
            await store.append(
                Stream(history.stream_id, history.subject_id, tenant_id, project_id),
                [
                    NewEvent(new_id(), event.TYPE, encode(event), event.timestamp)
                    for event in history.events
                ],
                expected_version=0,
                metadata=METADATA,
            )
            count += len(history.events)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CONCURRENT):
            tasks.create_task(appender())
    return count
