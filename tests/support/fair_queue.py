"""Runs in the queue without notebooks and workers: what is next, and who may be claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID, uuid4

from support.event_store import METADATA, new_event

from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, QueueChange, Stream

State = Literal["waiting", "claimed", "ended"]

_COUNTED = """
SELECT 1 AS level, tenant_id, uuid_nil AS project_id, uuid_nil AS notebook_id, kernel_type,
    priority,
    count(*) FILTER (WHERE state = 'waiting') AS waiting,
    count(*) FILTER (WHERE state = 'claimed') AS running
FROM execution_queue, (VALUES ('00000000-0000-0000-0000-000000000000'::uuid)) AS n (uuid_nil)
GROUP BY 1, 2, 3, 4, 5, 6
UNION ALL
SELECT 2, tenant_id, project_id, uuid_nil, kernel_type, priority,
    count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'claimed')
FROM execution_queue, (VALUES ('00000000-0000-0000-0000-000000000000'::uuid)) AS n (uuid_nil)
GROUP BY 1, 2, 3, 4, 5, 6
UNION ALL
SELECT 3, tenant_id, project_id, notebook_id, kernel_type, priority,
    count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'claimed')
FROM execution_queue GROUP BY 1, 2, 3, 4, 5, 6
"""

KEPT = """
SELECT level, tenant_id, project_id, notebook_id, kernel_type, priority, waiting, running
FROM queue_share WHERE waiting <> 0 OR running <> 0
"""


def run_of(
    tenant_id: UUID, project_id: UUID | None = None, notebook_id: UUID | None = None
) -> Stream:
    """The stream of a new run."""
    return Stream(uuid4(), notebook_id or uuid4(), tenant_id, project_id or uuid4())


async def enter(
    store: EventStore,
    run: Stream,
    *,
    kernel_type: str = "python3",
    priority: str = "Normal",
    tenant_limit: int | None = None,
    project_limit: int | None = None,
) -> None:
    """Let a run wait."""
    change = QueueChange(
        "waiting",
        kernel_type,
        priority,
        tenant_limit=tenant_limit,
        project_limit=project_limit,
    )
    await store.append(run, [new_event()], expected_version=0, metadata=METADATA, queue=change)


async def move(
    store: EventStore,
    run: Stream,
    state: State,
    *,
    version: int = 1,
    tenant_limit: int | None = None,
    project_limit: int | None = None,
) -> None:
    """Let a run that waits be claimed, wait again or end."""
    change = QueueChange(state, tenant_limit=tenant_limit, project_limit=project_limit)
    await store.append(
        run, [new_event()], expected_version=version, metadata=METADATA, queue=change
    )


async def limit_notebook(
    store: EventStore, notebook_id: UUID, most: int, *, version: int = 0
) -> None:
    """Let so many runs of a notebook be claimed at once."""
    stream = Stream(notebook_id, notebook_id, uuid4(), uuid4())
    await store.append(
        stream,
        [new_event()],
        expected_version=version,
        metadata=METADATA,
        queue=QueueChange(None, notebook_limit=most),
    )


async def shares(pool: Pool) -> tuple[Sequence[tuple[object, ...]], Sequence[tuple[object, ...]]]:
    """What is counted for each share, and what its runs add up to."""
    async with acquire(pool) as connection:
        kept = await connection.fetch(KEPT)
        counted = await connection.fetch(_COUNTED)
    return sorted(map(tuple, kept)), sorted(map(tuple, counted))
