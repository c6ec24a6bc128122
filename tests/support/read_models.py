"""Read models in tests: what they hold, and what they should hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

from nbledger_domain.execution import usual_durations
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_projections.machinery import quantities, runner
from nbledger_projections.machinery.documents import Documents, State
from nbledger_projections.machinery.runner import Projection
from nbledger_projections.read_models import (
    dataset_details,
    execution_actions,
    library_details,
    notices,
    schedules,
    triggers,
    webhooks,
)
from nbledger_projections.read_models.executions import folding as execution_folding
from nbledger_projections.read_models.executions import result_folding, state
from nbledger_projections.read_models.executions import results as execution_results
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.notebooks import details as notebook_details
from nbledger_projections.read_models.notebooks import documents as notebook_documents
from nbledger_projections.read_models.notebooks import folding as notebook_folding
from nbledger_projections.read_models.notebooks import list_items, listing
from nbledger_projections.registry import READ_MODELS

Rows = dict[str, list[tuple[Any, ...]]]

# Zero rows say nothing, and a rebuild has no reason to make them.
_ORDER = {
    "dataset_snapshot": "dataset_id, position",
    "execution_snapshot": "execution_id, position",
    "execution_tag": "execution_id, tag",
    "notebook_list_count": "tenant_id, project_id, level, bucket, kernel_type",
    "notebook_list_project": "tenant_id, project_id",
    "notebook_snapshot": "notebook_id, position",
}


async def contents(pool: Pool, name: str) -> Rows:
    """Every row of a projection's tables."""
    found: Rows = {}
    async with acquire(pool) as connection:
        for table in READ_MODELS[name].tables:
            rows = await connection.fetch(
                f"SELECT * FROM {table} ORDER BY {_ORDER.get(table, '1')}"
            )
            found[table] = [tuple(row) for row in rows]
    return found


async def all_contents(pool: Pool) -> dict[str, Rows]:
    return {name: await contents(pool, name) for name in READ_MODELS}


async def catch_up(
    pool: Pool, name: str | None = None, *, batch: int = 100, up_to: int | None = None
) -> int:
    """Project everything there is, with new projections; returns the position of the last."""
    store, position = EventStore(pool), 0
    for each in READ_MODELS if name is None else [name]:
        projection = READ_MODELS[each].projection()
        checkpoint = await begin(pool, each)
        while events := await store.read_all(after_position=checkpoint.position, limit=batch):
            events = [event for event in events if up_to is None or event.position <= up_to]
            if not events:
                break
            checkpoint = await runner.advance(pool, projection, events, checkpoint)
        position = checkpoint.position
    return position


async def begin(pool: Pool, name: str) -> Checkpoint:
    async with acquire(pool) as connection:
        return await checkpoints.ensure(connection, name)


async def until_reached(pool: Pool, position: int, *names: str, seconds: float = 20.0) -> None:
    """Wait until the consumers (by default all projections) have come to a position."""
    changed = asyncio.Event()

    def wake(*_: object) -> None:
        changed.set()

    async with asyncio.timeout(seconds), acquire(pool) as connection:
        await connection.add_listener(checkpoints.CHANNEL, wake)
        try:
            for name in names or READ_MODELS:
                while True:
                    changed.clear()
                    if await checkpoints.checkpoint(pool, name) >= position:
                        break
                    await changed.wait()
        finally:
            await connection.remove_listener(checkpoints.CHANNEL, wake)


def naive_details(events: Sequence[RecordedEvent]) -> dict[UUID, bytes]:
    """The notebooks' documents, each folded by itself from its first event."""
    states: dict[UUID, notebook_documents.NotebookState | None] = {}
    for recorded in events:
        subject = recorded.subject_id
        states[subject] = notebook_folding.fold(states.get(subject), recorded)
    return {
        key: quantities.encode(state.document) for key, state in states.items() if state is not None
    }


def naive_list(events: Sequence[RecordedEvent]) -> list[list_items.NotebookItemDocument]:
    """The items of all projects, newest first."""
    states: dict[UUID, list_items.ListState | None] = {}
    for ordinal, recorded in enumerate(events):
        subject = recorded.subject_id
        states[subject] = list_items.fold(states.get(subject), recorded, ordinal=ordinal)
    living = [state for state in states.values() if state is not None]
    return [state.item for state in sorted(living, key=lambda state: -state.ordinal)]


def naive_status(events: Sequence[RecordedEvent]) -> dict[UUID, bytes]:
    """The executions' documents as they are stored."""
    return {key: quantities.encode(each.document) for key, each in _statuses(events).items()}


def told_status(events: Sequence[RecordedEvent]) -> dict[UUID, bytes]:
    """The executions' documents as they are answered."""
    return {
        key: quantities.encode_in_words(each.document) for key, each in _statuses(events).items()
    }


def _statuses(events: Sequence[RecordedEvent]) -> dict[UUID, state.ExecutionRow]:
    states: dict[UUID, state.ExecutionRow] = {}
    durations: dict[UUID, dict[str, list[float]]] = {}
    for recorded in events:
        stream, subject = recorded.stream_id, recorded.subject_id
        if stream == subject:
            if recorded.type == "notebook.deleted.v1":
                states = {
                    key: state for key, state in states.items() if state.notebook_id != subject
                }
            continue
        earlier = durations.setdefault(subject, {})
        state = execution_folding.fold(states.get(stream), recorded, earlier=earlier)
        assert state is not None
        states[stream] = state
        if recorded.type == "execution.completed.v1":
            covered = usual_durations.span(state.document.cell_range)
            seconds = execution_folding.duration(state, recorded)
            earlier[covered] = [*earlier.get(covered, []), seconds][-20:]
    return states


def naive_results(events: Sequence[RecordedEvent]) -> dict[UUID, bytes]:
    """The executions' results."""
    states: dict[UUID, result_folding.ResultsState] = {}
    for recorded in events:
        stream, subject = recorded.stream_id, recorded.subject_id
        if stream == subject:
            if recorded.type == "notebook.deleted.v1":
                states = {
                    key: state for key, state in states.items() if state.notebook_id != subject
                }
            continue
        state = result_folding.fold(states.get(stream), recorded)
        assert state is not None
        states[stream] = state
    return {key: quantities.encode(state.results) for key, state in states.items()}


def naive_firings(events: Sequence[RecordedEvent]) -> dict[UUID, bytes]:
    """What is told of each firing."""
    last: dict[UUID, RecordedEvent] = {}
    for recorded in events:
        if recorded.type.startswith("firing.") and recorded.data is not None:
            last[recorded.stream_id] = recorded
        elif recorded.type == "notebook.deleted.v1":
            gone = recorded.subject_id
            last = {key: each for key, each in last.items() if each.subject_id != gone}
    return {
        key: quantities.encode(schedules.firing_document(each, decode(each)))
        for key, each in last.items()
    }


def naive_triggers(events: Sequence[RecordedEvent]) -> dict[UUID, bytes]:
    """What is told of each trigger."""
    states = {
        each.stream_id: (each.subject_id, triggers.fold(None, each))
        for each in events
        if each.type.startswith("trigger.")
    }
    gone = {each.subject_id for each in events if each.type == "notebook.deleted.v1"}
    return {
        key: quantities.encode(row.document)
        for key, (notebook_id, row) in states.items()
        if row is not None and notebook_id not in gone
    }


def naive_documents(
    documents: Documents[Any], events: Sequence[RecordedEvent]
) -> dict[UUID, bytes]:
    """The documents of a read model that has one for each stream."""
    states: dict[UUID, State[Any] | None] = {}
    for recorded in events:
        stream = recorded.stream_id
        states[stream] = documents.fold(states.get(stream), recorded)
    return {
        key: quantities.encode(state.document) for key, state in states.items() if state is not None
    }


def naive_notices(events: Sequence[RecordedEvent]) -> dict[UUID, bytes]:
    """What is told of each notice."""
    model = notices.MODEL
    rows: dict[UUID, Any] = {}
    for recorded in events:
        if recorded.type in model.types:
            key = model.key_of(recorded)
            row = model.fold(rows.get(key), recorded)
            if row is not None:
                rows[key] = row
        elif recorded.type == "notebook.deleted.v1":
            gone = recorded.subject_id
            rows = {key: row for key, row in rows.items() if row.subject_id != gone}
    return {key: quantities.encode(row.document) for key, row in rows.items()}


naive_datasets = partial(naive_documents, dataset_details.MODEL)
naive_libraries = partial(naive_documents, library_details.MODEL)
naive_actions = partial(naive_documents, execution_actions.MODEL)
naive_webhooks = partial(naive_documents, webhooks.MODEL)

_NAIVE: dict[str, tuple[Callable[[Sequence[RecordedEvent]], dict[UUID, bytes]], str]] = {
    notebook_details.NAME: (
        naive_details,
        "SELECT notebook_id, document, notebook_id FROM notebook_details",
    ),
    execution_status.NAME: (
        naive_status,
        "SELECT execution_id, document, notebook_id FROM execution_status",
    ),
    execution_results.NAME: (
        naive_results,
        "SELECT execution_id, results, notebook_id FROM execution_results",
    ),
    listing.NAME: (
        lambda events: {
            UUID(item.notebook_id): quantities.encode(item) for item in naive_list(events)
        },
        "SELECT notebook_id, item, notebook_id FROM notebook_list",
    ),
    dataset_details.NAME: (
        naive_datasets,
        "SELECT dataset_id, document, dataset_id FROM dataset_details",
    ),
    schedules.NAME: (
        naive_firings,
        "SELECT firing_id, document, notebook_id FROM schedule_firing",
    ),
    triggers.NAME: (
        naive_triggers,
        "SELECT trigger_id, document, notebook_id FROM trigger_list",
    ),
    notices.NAME: (
        naive_notices,
        "SELECT told_id, document, subject_id FROM notice_list",
    ),
    library_details.NAME: (
        naive_libraries,
        "SELECT library_id, document, library_id FROM library_details",
    ),
    webhooks.NAME: (
        naive_webhooks,
        "SELECT webhook_id, document, webhook_id FROM webhook_details",
    ),
    execution_actions.NAME: (
        naive_actions,
        "SELECT action_id, document, action_id FROM execution_action",
    ),
}


async def assert_holds(
    pool: Pool, name: str, events: Sequence[RecordedEvent], *, doomed: Iterable[UUID] = ()
) -> None:
    """The projection holds exactly what ``events`` add up to.

    Notebooks that are ``doomed``, deleted after ``events``, may be missing already.
    """
    naive, query = _NAIVE[name]
    doomed = set(doomed)
    async with acquire(pool) as connection:
        rows = await connection.fetch(query)
    held = {row[0]: row[1].encode() for row in rows if row[2] not in doomed}
    assert held == naive([event for event in events if event.subject_id not in doomed])
    if name == listing.NAME:
        await _assert_counts_hold(pool)


async def _assert_counts_hold(pool: Pool) -> None:
    async with acquire(pool) as connection:
        counted = await connection.fetch(
            """
            SELECT tenant_id, project_id, level, bucket, kernel_type, ready + ready_enriching,
                running + running_enriching, error + error_enriching,
                kernel_dead + kernel_dead_enriching,
                ready_enriching + running_enriching + error_enriching + kernel_dead_enriching
            FROM notebook_list_count ORDER BY 1, 2, 3, 4, 5
            """
        )
        expected = await connection.fetch(
            """
            SELECT tenant_id, project_id, level,
                CASE level WHEN 0 THEN 0 ELSE ordinal >> (4 * level) END AS bucket, kernel_type,
                count(*) FILTER (WHERE status = 'Ready'),
                count(*) FILTER (WHERE status = 'Running'),
                count(*) FILTER (WHERE status = 'Error'),
                count(*) FILTER (WHERE status = 'Kernel_Dead'),
                count(*) FILTER (WHERE enrichment_mode)
            FROM notebook_list, generate_series(0, 5) AS level
            GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
            """
        )
    assert [tuple(row) for row in counted] == [tuple(row) for row in expected]


class Crash(Exception):
    """A process that ends at this point."""


class Crashing:
    """A projection that can be made to end its process before, or after, it has written."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self.name = projection.name
        self.tables = projection.tables
        self.interests = projection.interests
        self.at: str | None = None

    def _perhaps(self, point: str) -> None:
        if self.at == point:
            raise Crash(point)

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        self._perhaps("load")
        await self._projection.load(connection, events)

    def apply(self, recorded: RecordedEvent) -> None:
        self._projection.apply(recorded)

    async def save(self, connection: PooledConnection) -> None:
        self._perhaps("before save")
        await self._projection.save(connection)
        self._perhaps("after save")

    def settle(self) -> None:
        self._perhaps("after commit")
        self._projection.settle()

    def reset(self) -> None:
        self._projection.reset()


@asynccontextmanager
async def running(role: Any, *arguments: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A role (``settings, stop, on_ready``) in this process: ready, and stopped at the end."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(role(*arguments, stop, ready.set))
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({waiting, task}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), task
        yield task
    finally:
        waiting.cancel()
        stop.set()
        async with asyncio.timeout(30):
            await task
