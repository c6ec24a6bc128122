"""Histories: what their index costs appends, what recording costs readers, how fast all is read."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from benchmarks.appends import append, cell_executed
from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare, within
from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.record_history_read import ReadRecorder
from nbledger_domain.cells import Cell
from nbledger_domain.histories import HistoryKind
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, NewEvent, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.read_models.histories import changes, pages, selection, windows
from nbledger_projections.read_models.histories.selection import Between

CHANGES = 50
READS = 200
EVENTS = 100_000
HISTORY: HistoryKind = "notebook"


def histories(bench: Bench) -> list[Figure]:
    """Appends with the index and without; a page with and without recording; all events."""
    type_name, data = cell_executed()
    seconds = 0.2 if bench.quick else 5.0
    indexed = bench.connect(bench.new_database("indexed"))
    bare_dsn = bench.new_database("unindexed")
    bench.run(_drop_indexes(bare_dsn))
    bare = bench.connect(bare_dsn)

    def appended(pool: Pool) -> float:
        return bench.run(_appended(pool, type_name, data, seconds))

    rounds = bench.alternate([lambda: appended(indexed), lambda: appended(bare)])
    for name, pool in (("unindexed", bare), ("indexed", indexed)):
        bench.run(pool.close())
        bench.drop_database(name)
    pool = bench.connect(bench.new_database("histories"))
    first, again, without = bench.run(_pages(pool, 5 if bench.quick else READS))
    rate = bench.run(_all(pool, 1_000 if bench.quick else EVENTS))
    bench.run(pool.close())
    bench.drop_database("histories")
    return [
        compare(
            figure="durable appends with the indexes for all events of a project or tenant",
            unit="appends/s",
            against="without them",
            pairs=[(ours, theirs) for ours, theirs in rounds],
            bound=0.97,
        ),
        compare(
            figure="page of 100 events with changes, reading on in the hour",
            unit="ms",
            against="not recorded",
            pairs=list(zip(again, without, strict=True)),
            bound=1.05,
            better="lower",
        ),
        compare(
            figure="page of 100 events with changes, first reading of the hour",
            unit="ms",
            against="not recorded",
            pairs=list(zip(first, without, strict=True)),
            bound=1.5,
            better="lower",
        ),
        within(
            figure=f"reading {EVENTS:,} events of a project, for each 1,000",
            unit="ms",
            values=[rate],
            bound=100,
        ),
    ]


async def _drop_indexes(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "DROP INDEX event_project_position, event_tenant_position, event_history_read"
        )
    finally:
        await connection.close()


async def _appended(pool: Pool, type_name: str, data: bytes, seconds: float) -> float:
    store = EventStore(pool)
    await store.start()
    try:
        return await append(store, type_name, data, seconds)
    finally:
        await store.close()


async def _pages(pool: Pool, reads: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of a page: recorded first, recorded already, and not recorded."""
    store = EventStore(pool)
    await store.start()
    try:
        caller, notebook_id = await _notebook(store)
        recorder = ReadRecorder(store)
        scope = selection.of_stream(caller.tenant_id, caller.project_id, notebook_id, "notebook")

        async def page() -> None:
            found = await pages.page(pool, caller.tenant_id, scope, bounds=Between(), limit=100)
            await changes.with_changes(pool, found.entries)

        async def first() -> None:
            await recorder.record(caller, HISTORY, new_id())
            await page()

        async def again() -> None:
            await recorder.record(caller, HISTORY, notebook_id)
            await page()

        await again()
        found: tuple[list[float], list[float], list[float]] = ([], [], [])
        for _ in range(reads):
            for times, read in zip(found, (first, again, page), strict=True):
                times.append(await _milliseconds(read))
        return found
    finally:
        await store.close()


async def _milliseconds(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def _notebook(store: EventStore) -> tuple[Caller, UUID]:
    """A notebook with a hundred events, and who looks at its history."""
    caller = Caller(
        str(new_id()), frozenset({Role.AUDITOR}), new_id(), new_id(), "r", None, new_id()
    )
    at = datetime.now(UTC)
    cells = [
        Cell(cell_id=f"cell-{number:03d}", cell_type="code", source="x = 1\n" * 20)
        for number in range(20)
    ]
    notebook = Notebook.create(
        new_id(),
        name="n",
        description="",
        kernel_type="python3",
        integration=Integration(),
        environment=Environment(),
        cells=cells,
        created_by=caller.actor,
        at=at,
    )
    for number in range(CHANGES):
        notebook.update(NotebookChanges(name=f"n{number}"), at=at)
    stream = caller.stream(notebook.id, notebook.id)
    await repository.append(store, stream, repository.collect(notebook), caller.metadata())
    return caller, notebook.id


async def _all(pool: Pool, events: int) -> float:
    """Milliseconds for each thousand events of a project, of which there are so many."""
    type_name, data = cell_executed()
    store = EventStore(pool)
    await store.start()
    tenant_id, project_id = new_id(), new_id()
    try:
        for first in range(0, events, 1000):
            stream_id = new_id()
            some = [
                NewEvent(
                    event_id=new_id(), type=type_name, data=data, occurred_at=datetime.now(UTC)
                )
                for _ in range(min(1000, events - first))
            ]
            await store.append(
                Stream(stream_id, stream_id, tenant_id, project_id),
                some,
                expected_version=0,
                metadata=Metadata(actor="bench"),
            )
    finally:
        await store.close()
    feed = windows.Feed(tenant_id=tenant_id, project_id=project_id)
    began, position, seen = time.perf_counter(), 0, 0
    while True:
        found = await windows.window(pool, feed, after=position, limit=500)
        position, seen = found.position, seen + len(found.entries)
        if found.all:
            break
    assert seen == events
    return (time.perf_counter() - began) * 1000 / (events / 1000)
