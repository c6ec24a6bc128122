"""Reading one thing is never stale, and shows nobody what belongs to others."""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from support.read_models import all_contents, catch_up, naive_details, naive_results, told_status
from support.stories import Story, begin, complete, record, request, step

from nbledger_domain.execution import CellRange
from nbledger_infrastructure.postgres.checkpoints import checkpoint, move
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.machinery.positions import _READ, PositionWatch
from nbledger_projections.read_models.executions import result_folding
from nbledger_projections.read_models.executions import results as execution_results
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.histories import pages, selection
from nbledger_projections.read_models.histories.entries import HistoryEntry
from nbledger_projections.read_models.histories.selection import Between
from nbledger_projections.read_models.notebooks import details as notebook_details
from nbledger_projections.read_models.notebooks import listing

Scoped = tuple[UUID, UUID, UUID]


def scoped(story: Story) -> Scoped:
    return story.stream.tenant_id, story.stream.project_id, story.notebook.id


async def notebook_history(
    pool: Pool, scope: Scoped, *, after: int = 0, limit: int = 1000, executions: bool = False
) -> list[HistoryEntry]:
    tenant_id, project_id, notebook_id = scope
    own = selection.of_stream(tenant_id, project_id, notebook_id, "notebook")
    told = selection.of_subject(*scope, None) if executions else own
    page = await pages.page(pool, tenant_id, told, bounds=Between(after=after), limit=limit)
    return page.entries


async def execution_history(
    pool: Pool, scope: Scoped, execution_id: uuid.UUID
) -> list[HistoryEntry]:
    told = selection.of_execution(*scope, execution_id)
    return (await pages.page(pool, scope[0], told, bounds=Between(), limit=1000)).entries


@pytest.mark.guarantee("G19")
async def test_reads_are_fresh_while_the_projector_stands_still(
    pool: Pool, store: EventStore
) -> None:
    """At every lag from nothing projected to everything, the answers are those of the events."""
    dice = random.Random(1)
    story = begin(dice)
    await record(store, story)
    for _ in range(60):
        step(story, dice)
        await record(store, story)
    events = await store.read_all(after_position=0, limit=1000)
    executions = [execution.id for execution in story.executions]
    assert len(executions) > 1

    async def read() -> object:
        return (
            await notebook_details.get(pool, *scoped(story)),
            [await execution_status.get(pool, *scoped(story), each) for each in executions],
            [await execution_results.get(pool, *scoped(story), each) for each in executions],
        )

    unprojected = await read()
    details = await notebook_details.get(pool, *scoped(story))
    assert details is not None
    assert details.document == naive_details(events)[story.notebook.id]
    assert (details.position, details.stream_version) == (len(events), story.notebook.version)
    assert details.running == len(story.running)
    for execution in story.executions:
        view = await execution_status.get(pool, *scoped(story), execution.id)
        assert view is not None
        assert view.document == told_status(events)[execution.id]
        assert (view.version, view.ended) == (execution.version, execution.ended)
        results = await execution_results.get(pool, *scoped(story), execution.id)
        assert results is not None
        expected = msgspec.json.decode(
            naive_results(events)[execution.id], type=result_folding.Results
        )
        assert (results.cells, results.artifacts) == (expected.cells, expected.artifacts)
    for position in range(10, len(events), 9):
        await catch_up(pool, up_to=position)
        assert await read() == unprojected, f"projected up to {position} of {len(events)}"
    await catch_up(pool)
    assert await read() == unprojected


@pytest.mark.guarantee("G19")
async def test_a_read_shows_an_append_at_once(pool: Pool, store: EventStore) -> None:
    dice = random.Random(2)
    story = begin(dice)
    await record(store, story)
    await catch_up(pool)
    for _ in range(30):
        step(story, dice)
        position = await record(store, story)
        view = await notebook_details.get(pool, *scoped(story))
        assert view is not None
        assert view.position >= position
        assert view.stream_version == story.notebook.version


@pytest.mark.guarantee("G20")
async def test_nothing_is_shown_to_a_foreign_tenant_or_project(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(3)
    story, other = begin(dice), begin(dice)
    execution = request(story, dice)
    story.executions.append(execution)
    await record(store, story, other)
    tenant, project, notebook = scoped(story)
    foreign = [
        (uuid.uuid4(), project, notebook),
        (tenant, uuid.uuid4(), notebook),
        (other.stream.tenant_id, other.stream.project_id, notebook),
    ]
    for _ in range(2):  # before it is projected, and after
        assert await notebook_details.get(pool, tenant, project, notebook) is not None
        for scope in foreign:
            assert await notebook_details.get(pool, *scope) is None
            assert await execution_status.get(pool, *scope, execution.id) is None
            assert await execution_results.get(pool, *scope, execution.id) is None
            assert await notebook_history(pool, scope, limit=10) == []
            assert await execution_history(pool, scope, execution.id) == []
            page = await execution_status.for_notebook(pool, *scope, page=1, page_size=10)
            assert (page.items, page.total_count) == ([], 0)
        # The right project, but not this notebook's execution; and a notebook is no execution.
        mine = (other.stream.tenant_id, other.stream.project_id, other.notebook.id)
        assert await execution_status.get(pool, *mine, execution.id) is None
        assert await execution_status.get(pool, tenant, project, notebook, notebook) is None
        assert await execution_results.get(pool, tenant, project, notebook, notebook) is None
        await catch_up(pool)


async def test_a_deleted_notebook_is_gone_at_once_with_its_executions(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(4)
    story, kept = begin(dice), begin(dice)
    for each in (story, kept):
        execution = request(each, dice)
        each.executions.append(execution)
        await record(store, each)
        complete(each, execution, 5)
    await record(store, story, kept)
    await catch_up(pool)
    story.notebook.delete(at=story.at)
    await record(store, story)

    async def gone() -> None:
        ids = story.executions[0].id
        assert await notebook_details.get(pool, *scoped(story)) is None
        assert await execution_status.get(pool, *scoped(story), ids) is None
        assert await execution_results.get(pool, *scoped(story), ids) is None

    await gone()
    assert await store.erase_subject(story.notebook.id) > 0
    await gone()
    await catch_up(pool)
    await gone()
    for rows in (await all_contents(pool)).values():
        for table in rows.values():
            assert str(story.notebook.id) not in str(table)
    assert await notebook_details.get(pool, *scoped(kept)) is not None
    # Only the history is left: what was done and by whom, not what it was about.
    told = await notebook_history(pool, scoped(story), executions=True)
    assert told[-1].type == "notebook.deleted.v1"
    assert all(entry.erased and bytes(entry.data) == b"null" for entry in told)


async def test_an_execution_that_slips_in_after_the_deletion_leaves_nothing(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(5)
    story = begin(dice)
    await record(store, story)
    late = request(story, dice)
    story.notebook.delete(at=story.at)
    await record(store, story)
    story.executions.append(late)
    await record(store, story)
    await catch_up(pool)
    late.request_cancel(requested_by="nbledger", at=story.at)
    await record(store, story)
    await catch_up(pool)
    async with acquire(pool) as connection:
        for table in ("execution_status", "execution_results", "notebook_details"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_a_run_is_estimated_by_those_that_completed_before_it(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(6)
    story = begin(dice)
    await record(store, story)

    async def requested(cell_range: CellRange | None = None) -> str | None:
        execution = request(story, dice, cell_range=cell_range)
        story.executions.append(execution)
        await record(store, story)
        view = await execution_status.get(pool, *scoped(story), execution.id)
        assert view is not None
        found: str | None = msgspec.json.decode(view.document).get("estimatedDuration")
        return found

    assert await requested() is None
    complete(story, story.executions[-1], 915)
    await record(store, story)
    await catch_up(pool)
    assert await requested() == "15-16 minutes"
    complete(story, story.executions[-1], 1190)
    assert await requested() == "15-20 minutes"  # though the second end is not yet projected
    unprojected = await execution_status.get(pool, *scoped(story), story.executions[-1].id)
    await catch_up(pool)
    assert unprojected == await execution_status.get(pool, *scoped(story), story.executions[-1].id)
    # One that fails says nothing of how long they take.
    story.executions[-1].request_cancel(requested_by="user123", at=story.at + timedelta(hours=9))
    assert await requested() == "15-20 minutes"
    # And those of all cells say nothing of how long some of them take.
    some = CellRange("cell-001", "cell-001")
    assert await requested(some) is None
    complete(story, story.executions[-1], 90)
    assert await requested(some) == "1-2 minutes"
    await catch_up(pool)
    assert await requested(some) == "1-2 minutes"
    assert await requested() == "15-20 minutes"


async def test_executions_of_a_notebook_newest_first(pool: Pool, store: EventStore) -> None:
    dice = random.Random(7)
    story = begin(dice)
    position = await record(store, story)
    for _ in range(5):
        story.executions.append(request(story, dice))
        position = await record(store, story)
    await catch_up(pool)
    newest_first = [str(execution.id) for execution in reversed(story.executions)]
    found = []
    for number in (1, 2, 3, 4):
        page = await execution_status.for_notebook(pool, *scoped(story), page=number, page_size=2)
        assert (page.total_count, page.position) == (5, position)
        found += [msgspec.json.decode(item)["executionId"] for item in page.items]
    assert found == newest_first
    assert "cellResults" not in msgspec.json.decode(
        (await execution_status.for_notebook(pool, *scoped(story), page=1, page_size=1)).items[0]
    )


async def test_history_tells_every_event_as_it_was_recorded(pool: Pool, store: EventStore) -> None:
    dice = random.Random(8)
    story = begin(dice)
    await record(store, story)
    for _ in range(25):
        step(story, dice)
    await record(store, story)
    own = await store.read_stream(story.notebook.id)
    everything = await store.read_subject(story.notebook.id)
    told = await notebook_history(pool, scoped(story))
    assert [entry.position for entry in told] == [event.position for event in own]
    for entry, event in zip(told, own, strict=True):
        assert bytes(entry.data) == event.data
        assert (entry.type, entry.version, entry.actor) == (event.type, event.version, "tester")
        assert (entry.digest, entry.chain) == (event.digest.hex(), event.chain.hex())
        salted = bytes.fromhex(entry.salt or "") + bytes(entry.data)
        assert (entry.formula, hashlib.sha256(salted).hexdigest()) == (2, entry.digest)
    told = await notebook_history(pool, scoped(story), executions=True)
    assert [entry.position for entry in told] == [event.position for event in everything]
    paged: list[int] = []
    while page := await notebook_history(
        pool, scoped(story), after=paged[-1] if paged else 0, limit=3, executions=True
    ):
        paged += [entry.position for entry in page]
    assert paged == [event.position for event in everything]
    for execution in story.executions:
        told = await execution_history(pool, scoped(story), execution.id)
        assert [entry.version for entry in told] == list(range(1, execution.version + 1))


async def test_waiting_for_a_position(pool: Pool) -> None:
    name = listing.NAME
    async with acquire(pool) as connection:
        await connection.execute("INSERT INTO projection_checkpoint (name) VALUES ($1)", name)

    async def moved(position: int) -> None:
        async with acquire(pool) as connection, connection.transaction():
            await move(connection, name, position)

    async with PositionWatch(pool) as watch:
        assert await watch.reached(name, 0, 0)
        assert not await watch.reached(name, 1, 0)
        assert not await watch.reached(name, 1, 0.05)
        assert not await watch.reached("never ran", 1, 0.01)
        waiting = [asyncio.create_task(watch.reached(name, 5, 20)) for _ in range(50)]
        others = asyncio.create_task(watch.reached("another", 5, 20))
        await moved(4)
        assert await watch.reached(name, 4, 20)
        assert not any(task.done() for task in waiting)
        await moved(5)
        assert all(await asyncio.gather(*waiting))
        assert not others.done()
        others.cancel()
        assert await checkpoint(pool, name) == 5


async def test_waiting_goes_on_when_the_listening_connection_is_lost(pool: Pool) -> None:
    name = listing.NAME
    async with acquire(pool) as connection:
        await connection.execute("INSERT INTO projection_checkpoint (name) VALUES ($1)", name)
    async with PositionWatch(pool) as watch:
        waiting = asyncio.create_task(watch.reached(name, 1, 30))
        async with acquire(pool) as connection:
            # Every other connection, as soon as one of them listens.
            while not await connection.fetchval(  # noqa: ASYNC110 (nothing tells of it)
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND query IN ('LISTEN nbledger_projection', $1)",
                _READ,
            ):
                await asyncio.sleep(0.01)
            async with connection.transaction():
                await move(connection, name, 1)
        assert await waiting
