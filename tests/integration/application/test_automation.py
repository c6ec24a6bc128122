"""Automatic execution on a real database: each change becomes part of one run, or is told of."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from support.automation import (
    AT_ONCE,
    add_version,
    automatic,
    automation,
    configure,
    edit,
    execution,
    outcomes,
    told,
)
from support.schedules import CALLER, SetClock, end_runs, requested, scheduler

from nbledger_application import repository
from nbledger_application.automation import resting
from nbledger_application.automation.manager import Automation
from nbledger_application.automation.recording import told as told_of
from nbledger_application.automation.rows import load
from nbledger_application.automation.standing import standing
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.commands.execute_notebook import RunRequest, execute_notebook
from nbledger_application.preconditions import Precondition
from nbledger_application.starting import NOTEBOOKS_AT_ONCE
from nbledger_domain.automation import AutomationSettings, Trigger, execution_id_of
from nbledger_domain.dataset import Dataset
from nbledger_domain.execution import RetryPolicy, RunOptions
from nbledger_infrastructure import clock
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Stream


@pytest.fixture
def now() -> SetClock:
    """Minutes ahead: what is recorded has been quiet for a while."""
    clock_ahead = SetClock()
    clock_ahead.step(10)
    return clock_ahead


@pytest.fixture
def running(pool: Pool, store: EventStore, now: SetClock) -> Automation:
    return automation(pool, store, now)


async def run(store: EventStore, pool: Pool, notebook_id: UUID) -> UUID:
    """A run that somebody asks for."""
    made, _, _ = await execute_notebook(
        store,
        pool,
        CALLER,
        notebook_id,
        lambda *_: RunRequest(None, {}, RunOptions(timeout=60), []),
        queue_without_worker=True,
    )
    return made


async def kept(pool: Pool) -> list[tuple[Any, ...]]:
    """All that is kept of triggers."""
    async with acquire(pool) as connection:
        found = await connection.fetch("SELECT * FROM automation_trigger ORDER BY 1")
    return [tuple(row) for row in found]


async def test_a_new_version_and_other_cells_start_a_run_each_that_says_so(
    store: EventStore, running: Automation
) -> None:
    dataset = uuid4()
    retry = RetryPolicy(max_attempts=2)
    setting = msgspec.structs.replace(
        AT_ONCE, cell_timeout=20.0, retry_policy=retry, tags=("on-change",)
    )
    notebook_id = await automatic(store, setting, dataset=dataset)
    other = await automatic(store, False, dataset=dataset)
    assert await running.tick() is None
    assert await requested(store, notebook_id) == []  # nothing has changed since it is on

    version = await add_version(store, dataset)
    await running.tick()
    (first,) = await requested(store, notebook_id)
    (fact,) = await told(store, notebook_id)
    found = await execution(store, first)
    assert (fact.what, fact.changes) == ("started", 1)
    assert first == execution_id_of(fact.trigger_id)
    assert (found.requested_by, list(found.tags)) == ("ann", ["on-change"])
    assert (found.options.cell_timeout, found.options.retry_policy) == (20.0, retry)
    cause = found.cause
    assert (cause.kind, cause.dataset_id, cause.dataset_version) == ("dataset", dataset, version)
    assert (cause.trigger_id, cause.changes) == (fact.trigger_id, 1)
    (changed,) = [
        each for each in await store.read_stream(dataset) if each.type.startswith("dataset.version")
    ]
    (trigger,) = await store.read_stream(fact.trigger_id)
    (asked,) = await store.read_stream(first)
    # The chain can be walked by the metadata alone.
    assert asked.metadata.causation_id == str(trigger.event_id)
    assert trigger.metadata.causation_id == str(changed.event_id)
    assert {each.metadata.correlation_id for each in (asked, trigger, changed)} == {"request-1"}
    assert (asked.metadata.actor, asked.metadata.on_behalf_of) == ("automation", "ann")

    await end_runs(store, [first])
    for _ in range(3):
        await edit(store, notebook_id, cells=2)
    await running.tick()
    _, second = await requested(store, notebook_id)
    cause = (await execution(store, second)).cause
    assert (cause.kind, cause.notebook_version, cause.changes) == ("cells", "1.3.0", 3)
    assert (cause.dataset_id, cause.dataset_version) == (None, None)
    assert await outcomes(store, other) == await requested(store, other) == []


async def test_changes_gather_until_it_is_quiet_and_while_a_run_goes_on(
    pool: Pool, store: EventStore, running: Automation, now: SetClock
) -> None:
    settings = AutomationSettings(quiet_seconds=300, min_interval_seconds=7200)
    notebook_id = await automatic(store, settings)
    await edit(store, notebook_id)
    now.time = datetime.now(UTC)
    soon = await running.tick()
    assert soon is not None
    assert 200 < soon <= 300
    found = await standing(pool, notebook_id)
    assert found is not None
    assert found.gathering is not None
    assert (found.gathering.waits_for, found.gathering.changes) == ("quiet", 1)
    now.step(6)
    await running.tick()
    (first,) = await requested(store, notebook_id)

    await edit(store, notebook_id)
    await edit(store, notebook_id)
    now.step(60)
    assert await running.tick() is None  # whatever time passes
    found = await standing(pool, notebook_id)
    assert found is not None
    assert found.gathering is not None
    assert (found.running, found.gathering.waits_for) == (first, "run")
    await end_runs(store, [first])
    # The run was started when the database says so; the clock of this test is ahead of it.
    until = await running.tick()
    found = await standing(pool, notebook_id)
    assert until is not None
    assert found is not None
    assert found.gathering is not None
    assert (found.running, found.gathering.waits_for) == (None, "interval")
    now.step(60)
    await running.tick()
    assert [each.changes for each in await told(store, notebook_id)] == [1, 2]


@pytest.mark.guarantee("G34")
async def test_no_notebook_runs_because_of_itself_and_others_do(
    pool: Pool, store: EventStore, running: Automation
) -> None:
    own, of_a, of_b, of_c = (uuid4() for _ in range(4))
    alone = await automatic(store, dataset=own)
    a = await automatic(store, dataset=of_c)
    b = await automatic(store, dataset=of_a)
    c = await automatic(store, dataset=of_b)
    leaf = await automatic(store, dataset=of_a)
    writes = {alone: own, a: of_a, b: of_b, c: of_c}

    done: set[UUID] = set()

    async def play() -> None:
        """Let whatever was started end, having written its dataset, until nothing starts."""
        while True:
            await running.tick()
            left = [
                (notebook_id, each)
                for notebook_id in (*writes, leaf)
                for each in await requested(store, notebook_id)
                if each not in done
            ]
            if not left:
                return
            for notebook_id, each in left:
                if notebook_id in writes:
                    await add_version(store, writes[notebook_id], by=each)
                await end_runs(store, [each])
                done.add(each)

    await run(store, pool, alone)
    await run(store, pool, a)
    await play()
    assert await outcomes(store, alone) == ["skipped loop"]
    assert len(await requested(store, alone)) == 1
    assert await outcomes(store, b) == await outcomes(store, c) == ["started"]
    assert await outcomes(store, leaf) == ["started"]
    assert await outcomes(store, a) == ["skipped loop"]
    (skipped,) = await told(store, a)
    assert skipped.data["chains"] == [[str(each) for each in (a, b, c)]]
    assert skipped.data["datasetVersion"] == 1

    # Somebody's own change is the beginning of another chain.
    await add_version(store, of_c)
    await play()
    assert await outcomes(store, a) == ["skipped loop", "started", "skipped loop"]
    assert await outcomes(store, c) == ["started", "started"]


async def test_a_schedule_is_a_first_cause_like_any_other(
    pool: Pool, store: EventStore, running: Automation, now: SetClock
) -> None:
    own = uuid4()
    notebook_id = await automatic(store, dataset=own, schedule="* * * * *")
    downstream = await automatic(store, dataset=own)
    firing = scheduler(pool, store, now)
    await firing.tick()
    now.step(1)
    await firing.tick()
    (made,) = (await requested(store, notebook_id))[:1]
    await add_version(store, own, by=made)
    await running.tick()
    assert await outcomes(store, notebook_id) == ["skipped loop"]
    assert await outcomes(store, downstream) == ["started"]
    (fact,) = await told(store, downstream)
    assert fact.data["chains"] == [[str(notebook_id)]]


async def test_what_cannot_run_is_told(pool: Pool, store: EventStore, running: Automation) -> None:
    dataset, gone = uuid4(), uuid4()
    slow = AutomationSettings(quiet_seconds=3600)
    empty = await automatic(store, cells=0, dataset=dataset)
    off = await automatic(store, slow, dataset=dataset)
    unbound = await automatic(store, slow, dataset=dataset)
    of_gone = await automatic(store, slow, dataset=gone)
    deleted = await automatic(store, slow, dataset=dataset)
    await add_version(store, dataset)
    await add_version(store, gone)
    await running.tick()
    await configure(store, off, False, dataset=dataset)
    await configure(store, unbound, slow, dataset=uuid4())
    await repository.update(
        store, Dataset, gone, lambda each: each.delete(at=clock.now()), CALLER.metadata()
    )
    await delete_notebook(store, pool, CALLER, deleted, force=True, precondition=Precondition())
    await running.tick()
    assert await outcomes(store, empty) == ["skipped nothing_to_execute"]
    assert await outcomes(store, off) == ["skipped switched_off"]
    assert await outcomes(store, unbound) == ["skipped unbound"]
    assert await outcomes(store, of_gone) == ["skipped dataset_deleted"]
    assert await outcomes(store, deleted) == []
    assert await kept(pool) == []
    async with acquire(pool) as connection:
        rows, _ = await load(connection, [empty, off, unbound, of_gone, deleted], [])
    assert {row.notebook_id for row in rows} == {empty, unbound, of_gone}


@pytest.mark.guarantee("G34")
async def test_a_run_that_was_not_asked_for_in_time_is_asked_for_by_the_next(
    pool: Pool, store: EventStore, running: Automation, now: SetClock
) -> None:
    """A process ends between the two appends, having seen fewer changes than there are by then."""
    notebook_id = await automatic(store, AutomationSettings(quiet_seconds=3600))
    await edit(store, notebook_id)
    await running.tick()
    async with acquire(pool) as connection:
        _, (row,) = await load(connection, [notebook_id], [])
    version = len(await store.read_stream(notebook_id))
    await edit(store, notebook_id)
    started = Trigger.Started(
        **told_of(row), execution_id=row.execution_id, notebook_stream_version=version
    )
    await repository.append(store, row.stream(row.trigger_id), [started], CALLER.metadata())
    following = automation(pool, store, now)
    await following.tick()
    (first,) = await requested(store, notebook_id)
    found = await execution(store, first)
    assert found.notebook_stream_version == version
    assert (found.cause.notebook_version, found.cause.changes) == ("1.1.0", 1)
    # What it had not seen becomes a run of its own.
    await end_runs(store, [first])
    now.step(60)
    await following.tick()
    assert [(each.what, each.changes) for each in await told(store, notebook_id)] == [
        ("started", 1),
        ("started", 1),
    ]
    assert len(await requested(store, notebook_id)) == 2


@pytest.mark.guarantee("G34")
async def test_two_at_work_start_each_once(pool: Pool, store: EventStore, now: SetClock) -> None:
    dataset = uuid4()
    notebooks = [await automatic(store, dataset=dataset) for _ in range(5)]
    two = [automation(pool, store, now) for _ in range(2)]
    versions = 0
    for _ in range(6):
        versions += 1
        ticking = [asyncio.create_task(each.tick()) for each in two]
        await add_version(store, dataset)
        # What one of them finds done by the other it leaves; it goes on with the next tick.
        await asyncio.gather(*ticking, return_exceptions=True)
        for notebook_id in notebooks:
            await end_runs(
                store,
                [
                    each
                    for each in await requested(store, notebook_id)
                    if not (await execution(store, each)).ended
                ],
            )
    last = automation(pool, store, now)
    for _ in range(2):
        await last.tick()
    for notebook_id in notebooks:
        found = await told(store, notebook_id)
        assert sum(each.changes for each in found) == versions
        assert {each.what for each in found} == {"started"}
        assert sorted(await requested(store, notebook_id)) == sorted(
            execution_id_of(each.trigger_id) for each in found
        )


async def test_no_more_runs_wait_than_may(pool: Pool, store: EventStore, now: SetClock) -> None:
    dataset = uuid4()
    notebooks = [await automatic(store, dataset=dataset) for _ in range(3)]
    await add_version(store, dataset)
    full = automation(pool, store, now, max_waiting_per_project=2)
    await full.tick()

    async def started() -> list[UUID]:
        return [each for notebook_id in notebooks for each in await requested(store, notebook_id)]

    assert len(await started()) == 2
    (held,) = [each for each in notebooks if not await requested(store, each)]
    found = await standing(pool, held)
    assert found is not None
    assert found.gathering is not None
    assert found.gathering.waits_for == "queue"
    now.time += timedelta(seconds=10)
    await full.tick()
    assert len(await started()) == 2
    await end_runs(store, (await started())[:1])
    now.time += timedelta(seconds=10)
    await full.tick()
    assert len(await started()) == 3
    assert await outcomes(store, held) == ["started"]


async def test_what_is_put_off_reads_no_notebook_and_what_fails_keeps_nobody_waiting(
    pool: Pool, store: EventStore, now: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resting, "REST_SECONDS", 3600.0)
    dataset = uuid4()
    bad, *good = [await automatic(store, dataset=dataset) for _ in range(NOTEBOOKS_AT_ONCE + 5)]
    full = automation(pool, store, now, max_waiting_per_project=1)
    await full.tick()
    first = await run(store, pool, good[0])
    kept = await pool.fetchval("SELECT data::text FROM event WHERE stream_id = $1", bad)
    await pool.execute("UPDATE event SET data = '{}' WHERE stream_id = $1", bad)
    await add_version(store, dataset)
    await full.tick()
    # Nothing has room: the notebook that cannot be read is not read.
    held = await pool.fetchval("SELECT count(*) FROM automation_trigger WHERE held")
    assert held == len([bad, *good])
    await end_runs(store, [first])
    now.step(1)
    roomy = automation(pool, store, now)
    for _ in range(2):  # with the second tick it rests
        await roomy.tick()
    assert [await outcomes(store, each) for each in good] == [["started"]] * len(good)
    assert await outcomes(store, bad) == []
    await pool.execute("UPDATE event SET data = $2::text::json WHERE stream_id = $1", bad, kept)
    await roomy.tick()
    assert await outcomes(store, bad) == []
    await automation(pool, store, now).tick()
    assert await outcomes(store, bad) == ["started"]


async def test_what_was_changed_before_there_was_automatic_execution_starts_nothing(
    pool: Pool, store: EventStore, running: Automation
) -> None:
    dataset = uuid4()
    notebook_id = await automatic(store, dataset=dataset)
    await add_version(store, dataset)
    await edit(store, notebook_id)
    async with acquire(pool) as connection:
        await connection.execute(
            "UPDATE automation_since SET position = (SELECT max(position) FROM event)"
        )
    await running.tick()
    assert await outcomes(store, notebook_id) == []
    await edit(store, notebook_id)
    await running.tick()
    assert [each.changes for each in await told(store, notebook_id)] == [1]


async def test_all_that_is_kept_can_be_made_anew(
    pool: Pool, store: EventStore, running: Automation, now: SetClock
) -> None:
    dataset = uuid4()
    waits, runs = [await automatic(store, dataset=dataset) for _ in range(2)]
    await configure(store, waits, AutomationSettings(quiet_seconds=3600), dataset=dataset)
    for _ in range(3):
        await add_version(store, dataset)
        await running.tick()
    await end_runs(store, (await requested(store, runs))[:1])
    await running.tick()
    before = await kept(pool)
    assert len(before) == 2
    async with acquire(pool) as connection:
        await connection.execute("DELETE FROM automation_trigger")
        await connection.execute("DELETE FROM automation")
        await connection.execute("DELETE FROM projection_checkpoint WHERE name = 'automation'")
    await automation(pool, store, now).tick()
    assert await kept(pool) == before
    assert len(await requested(store, runs)) == 2


async def test_it_holds_for_one_project_alone(store: EventStore, running: Automation) -> None:
    dataset = uuid4()
    notebook_id = await automatic(store, dataset=dataset)
    foreign = Dataset.create(dataset, name="D", at=clock.now())
    elsewhere = Stream(dataset, dataset, CALLER.tenant_id, uuid4())
    await repository.save(store, foreign, elsewhere, CALLER.metadata())
    await add_version(store, dataset)
    await running.tick()
    assert await outcomes(store, notebook_id) == []
