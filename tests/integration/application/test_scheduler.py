"""The scheduler on a real database: what is due fires once, and everything else is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from support.event_store import open_pool, open_store
from support.schedules import (
    CALLER,
    MINUTE,
    SetClock,
    end_runs,
    outcomes,
    requested,
    reschedule,
    scheduled,
    scheduler,
    told,
)

from nbledger_application.commands.change_schedule import (
    AskedFiring,
    backfill_schedule,
    pause_schedule,
    read_schedule,
    resume_schedule,
    run_schedule,
)
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.commands.execute_notebook import RunRequest, execute_notebook
from nbledger_application.database_clock import database_time
from nbledger_application.preconditions import Precondition
from nbledger_application.queue import ShareLimits
from nbledger_application.schedules.firing import FiringRecorder, started_event
from nbledger_application.schedules.rows import load_schedules
from nbledger_application.schedules.scheduler import Scheduler
from nbledger_domain.errors import QueueFullError
from nbledger_domain.execution import Execution, RetryPolicy, RunOptions
from nbledger_domain.schedule import (
    ScheduleSettings,
    ScheduleState,
    execution_id_of,
    firing_id_of,
    schedule_id_of,
)
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Executions as Limits

EVERY_MINUTE = "* * * * *"


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    async with open_pool(database_dsn, max_size=8) as opened:
        yield opened


@pytest.fixture
async def store(pool: Pool) -> AsyncIterator[EventStore]:
    async with open_store(pool) as opened:
        yield opened


@pytest.fixture
def now() -> SetClock:
    return SetClock()


@pytest.fixture
def firing(pool: Pool, store: EventStore, now: SetClock) -> Scheduler:
    return scheduler(pool, store, now)


def settings(**members: Any) -> ScheduleSettings:
    return ScheduleSettings(**{"cron": EVERY_MINUTE, **members})


async def rows(pool: Pool) -> list[tuple[Any, ...]]:
    """All that the scheduler keeps."""
    async with acquire(pool) as connection:
        found = await connection.fetch("SELECT * FROM schedule ORDER BY schedule_id")
        found += await connection.fetch("SELECT * FROM schedule_run ORDER BY firing_id")
    return [tuple(row) for row in found]


async def state(store: EventStore, notebook_id: UUID) -> str:
    return (await read_schedule(store, CALLER, notebook_id)).state.value


async def test_a_schedule_is_as_its_notebook_says(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebook_id = await scheduled(store, "CRON_TZ=Europe/Berlin 0 2 * * *")
    other = await scheduled(store, None)
    broken = await scheduled(store, "61 * * * *")
    schedule_id = schedule_id_of(notebook_id)
    assert await firing.tick() is not None
    async with acquire(pool) as connection:
        found = await load_schedules(
            connection, [schedule_id, schedule_id_of(other), schedule_id_of(broken)]
        )
    assert list(found) == [schedule_id]
    assert (found[schedule_id].settings.time_zone, found[schedule_id].set_by) == (
        "Europe/Berlin",
        "ann",
    )
    await reschedule(store, notebook_id, settings(overlap="allow"))
    await firing.tick()
    now.step(1)
    await firing.tick()
    assert await outcomes(store, notebook_id) == ["started"] * 2

    await reschedule(store, notebook_id, None)
    await firing.tick()
    now.step(5)
    assert await firing.tick() is None
    await reschedule(store, notebook_id, EVERY_MINUTE)
    await firing.tick()
    now.step(1)
    await firing.tick()
    # It begins anew where it was set again; a run of before goes on, which this policy skips for.
    assert Counter(await outcomes(store, notebook_id)) == {"started": 2, "skipped overlap": 6}

    assert await delete_notebook(
        store, pool, CALLER, notebook_id, force=True, precondition=Precondition()
    )
    now.step(1)
    assert await firing.tick() is None
    assert await outcomes(store, notebook_id) == ["started"] * 2 + ["skipped overlap"] * 6
    for execution_id in await requested(store, notebook_id):
        loaded = await aggregates.load(store, Execution, execution_id)
        assert loaded is not None
        assert loaded.aggregate.ended


async def test_a_run_says_why_it_is(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    retry = RetryPolicy(max_attempts=2)
    asked = settings(
        parameters={"days": 7},
        timeout=90.0,
        cell_timeout=20.0,
        priority="High",
        retry_policy=retry,
        tags=("nightly",),
    )
    notebook_id = await scheduled(store, asked)
    await firing.tick()
    (fact,) = await told(store, notebook_id)
    (execution_id,) = await requested(store, notebook_id)
    loaded = await aggregates.load(store, Execution, execution_id)
    assert loaded is not None
    execution = loaded.aggregate
    assert fact.due == now.time
    assert fact.firing_id == firing_id_of(schedule_id_of(notebook_id), now.time)
    assert execution_id == execution_id_of(fact.firing_id)
    assert (execution.parameters, execution.requested_by) == ({"days": 7}, "ann")
    assert (execution.options.timeout, execution.options.priority) == (90.0, "High")
    assert (execution.options.cell_timeout, execution.options.retry_policy) == (20.0, retry)
    assert list(execution.tags) == ["nightly"]
    cause = execution.cause
    assert (cause.kind, cause.trigger, cause.due_at) == ("schedule", "due", now.time)
    assert (cause.firing_id, cause.schedule_id) == (fact.firing_id, schedule_id_of(notebook_id))
    (recorded,) = [each for each in await store.read_stream(execution_id) if each.version == 1]
    assert (recorded.metadata.actor, recorded.metadata.on_behalf_of) == ("scheduler", "ann")


@pytest.mark.guarantee("G29")
async def test_two_schedulers_and_a_clock_that_steps_fire_each_time_once(
    pool: Pool, store: EventStore, now: SetClock
) -> None:
    notebooks = [
        await scheduled(store, settings(overlap="allow", jitter_seconds=jitter))
        for jitter in (0, 0, 20)
    ]
    start = now.time
    one, two = (scheduler(pool, store, now) for _ in range(2))
    latest = start
    for step in (0, 1, 2, -10, 3, 10, 5, -10, 9, 1, -4, 12):
        now.step(step)
        latest = max(latest, now.time)
        # What one of them finds done by the other it leaves; it goes on with the next tick.
        await asyncio.gather(one.tick(), two.tick(), return_exceptions=True)
    now.time = latest + MINUTE
    await scheduler(pool, store, now).tick()
    for notebook_id in notebooks:
        found = await told(store, notebook_id)
        dues = sorted(each.due for each in found)
        assert dues == sorted(set(dues))
        assert {each.what for each in found} == {"started"}
        assert dues[0] == start
        assert dues[-1] >= latest
        assert len(dues) == round((dues[-1] - dues[0]) / MINUTE) + 1
        runs = await requested(store, notebook_id)
        assert sorted(runs) == sorted(execution_id_of(each.firing_id) for each in found)


@pytest.mark.guarantee("G29")
@pytest.mark.guarantee("G32")
async def test_runs_of_firings_count_for_what_may_wait_and_are_not_refused_themselves(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebook_id = await scheduled(store, settings(overlap="allow"))
    await firing.tick()
    now.step(1)
    await firing.tick()
    waiting = len(await requested(store, notebook_id))
    assert waiting == 2
    full = ShareLimits(tenant=waiting + 1, project=waiting)
    with pytest.raises(QueueFullError):
        await execute_notebook(
            store,
            pool,
            CALLER,
            notebook_id,
            lambda *_: RunRequest(None, {}, RunOptions(timeout=60), []),
            queue_without_worker=True,
            limits=full,
        )
    now.step(1)
    await firing.tick()
    assert len(await requested(store, notebook_id)) == waiting + 1


@pytest.mark.guarantee("G29")
async def test_what_was_cut_off_between_two_appends_is_finished(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebook_id = await scheduled(store, EVERY_MINUTE)
    now.step(-2)
    await firing.tick()
    now.step(2)
    # As a scheduler does that is killed after the first of the two appends.
    recorder = FiringRecorder(store, Limits())
    async with acquire(pool) as connection:
        (row,) = (await load_schedules(connection, [schedule_id_of(notebook_id)])).values()
    notebook = (await recorder.notebooks([notebook_id]))[notebook_id]
    firing_id = firing_id_of(row.schedule_id, now.time)
    make = started_event(row, firing_id, now.time, "due", notebook)
    assert await recorder.record(row, firing_id, make)
    assert not await recorder.record(row, firing_id, make)
    assert await requested(store, notebook_id) == []
    # The notebook has changed since: the run is of the version that the firing names.
    await reschedule(store, notebook_id, EVERY_MINUTE)
    for _ in range(2):
        await scheduler(pool, store, now).tick()
        assert await requested(store, notebook_id) == [execution_id_of(firing_id)]
    loaded = await aggregates.load(store, Execution, execution_id_of(firing_id))
    assert loaded is not None
    assert loaded.aggregate.notebook_stream_version == notebook.version
    assert await outcomes(store, notebook_id) == ["started"]


async def test_what_the_scheduler_keeps_can_be_made_anew_from_the_events(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebooks = [
        await scheduled(store, settings(overlap=overlap, max_runs=9))
        for overlap in ("allow", "queueAll", "skip")
    ]
    for _ in range(3):
        await firing.tick()
        now.step(1)
    await pause_schedule(store, CALLER, notebooks[0], note=None)
    await run_schedule(store, CALLER, notebooks[1])
    await firing.tick()
    kept = await rows(pool)
    assert len(kept) > 6
    async with acquire(pool) as connection:
        await connection.execute(
            "DELETE FROM schedule; DELETE FROM projection_checkpoint WHERE name = 'scheduler'"
        )
    before = await store.head_position()
    await scheduler(pool, store, now).tick()
    assert await rows(pool) == kept
    assert await store.head_position() == before


async def test_overlap_policies(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebooks = {
        overlap: await scheduled(store, settings(overlap=overlap))
        for overlap in ("skip", "queueOne", "queueAll", "cancelPrevious", "allow")
    }
    for _ in range(3):
        await firing.tick()
        now.step(1)
    found = {name: await outcomes(store, each) for name, each in notebooks.items()}
    assert found == {
        "skip": ["started", "skipped overlap", "skipped overlap"],
        "queueOne": ["started", "queued", "skipped queue_full"],
        "queueAll": ["started", "queued", "queued"],
        # What it queues has the run before it cancelled, and starts once that has ended.
        "cancelPrevious": ["started", "queued", "started", "queued"],
        "allow": ["started"] * 3,
    }
    now.step(-0.5)
    await firing.tick()
    await firing.tick()
    runs = await requested(store, notebooks["cancelPrevious"])
    assert len(runs) == 3
    ended = [await aggregates.load(store, Execution, each) for each in runs]
    assert [each is not None and each.aggregate.ended for each in ended] == [True, True, False]

    for name in ("queueOne", "queueAll"):
        for run in range(3):
            running = await requested(store, notebooks[name])
            await end_runs(store, running[run : run + 1])
            await firing.tick()
    assert (await outcomes(store, notebooks["queueOne"]))[3:] == ["started"]
    assert (await outcomes(store, notebooks["queueAll"]))[3:] == ["started", "started"]
    dues = [each.due for each in await told(store, notebooks["queueAll"])]
    assert dues[3:] == dues[1:3]
    # Each of them runs once.
    for notebook_id in notebooks.values():
        executions = await requested(store, notebook_id)
        assert len(executions) == len(set(executions))


async def test_a_run_is_asked_for_and_what_was_due_is_made_up_for_once(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebook_id = await scheduled(store, settings(overlap="allow", catch_up_seconds=60))
    await firing.tick()
    start = now.time
    now.step(30)
    await firing.tick()
    missed = (await told(store, notebook_id))[1]
    assert missed.what == "missed catch_up"
    assert (missed.due, missed.data["count"]) == (start + MINUTE, 29)
    fired = await outcomes(store, notebook_id)
    assert fired == ["started", "missed catch_up", "started"]

    back = partial(backfill_schedule, store, CALLER, notebook_id)
    asked: list[AskedFiring] = []
    for _ in range(3):
        _, asked = await back(since=start, through=start + 5 * MINUTE)
        assert [each.due_at for each in asked] == [start + each * MINUTE for each in range(6)]
        await firing.tick()
    manual = await run_schedule(store, CALLER, notebook_id)
    await firing.tick()
    found = (await told(store, notebook_id))[3:]
    assert [each.data["trigger"] for each in found] == ["backfill"] * 5 + ["manual"]
    assert {each.what for each in found} == {"started"}
    assert found[-1].firing_id == manual.firing_id
    runs = await requested(store, notebook_id)
    assert len(runs) == len(set(runs)) == 8
    assert {each.execution_id for each in asked} < set(runs)
    async with acquire(pool) as connection:
        assert (
            await connection.fetchval("SELECT count(*) FROM schedule_run WHERE state <> 'running'")
            == 0
        )


async def test_a_backfill_of_a_schedule_whose_runs_may_not_overlap_goes_one_by_one(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebook_id = await scheduled(store, settings(catch_up_seconds=60))
    await firing.tick()
    now.step(10)
    await firing.tick()
    await end_runs(store, await requested(store, notebook_id))
    await firing.tick()
    await pause_schedule(store, CALLER, notebook_id, note="while we look")
    since = now.time - 9 * MINUTE
    await backfill_schedule(store, CALLER, notebook_id, since=since, through=since + 2 * MINUTE)
    for count in range(3):
        await firing.tick()
        running = (await requested(store, notebook_id))[-1:]
        await end_runs(store, running)
        backfilled = [
            each
            for each in await told(store, notebook_id)
            if each.data["trigger"] == "backfill" and each.what == "started"
        ]
        assert len(backfilled) == count + 1
    assert await state(store, notebook_id) == "paused"


async def test_it_pauses_resumes_and_ends(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    paused = await scheduled(store, EVERY_MINUTE)
    failing = await scheduled(store, settings(pause_after_failures=2))
    bounded = await scheduled(store, settings(overlap="allow", max_runs=2))
    over = await scheduled(store, settings(overlap="allow", end=now.time + MINUTE))
    empty = await scheduled(store, EVERY_MINUTE, cells=0)
    await firing.tick()
    await end_runs(store, await requested(store, failing), failed=True)
    await pause_schedule(store, CALLER, paused, note="why not")
    for minute in range(3):
        now.step(1)
        await firing.tick()
        if minute == 0:
            await end_runs(store, (await requested(store, failing))[1:2], failed=True)
    assert await outcomes(store, paused) == ["started"]
    assert await outcomes(store, failing) == ["started", "started"]
    assert await outcomes(store, bounded) == ["started", "started"]
    assert await outcomes(store, over) == ["started", "started"]
    assert set(await outcomes(store, empty)) == {"skipped nothing_to_execute"}
    found = {each: await read_schedule(store, CALLER, each) for each in (paused, failing)}
    assert found[paused].note == "why not"
    assert found[failing].pause_reason == "failures"
    assert [await state(store, each) for each in (paused, failing, bounded, over, empty)] == [
        *("paused", "paused", "ended", "ended", "active")
    ]

    await resume_schedule(store, CALLER, paused, note=None)
    async with acquire(pool) as connection:
        resumed_at = await database_time(connection)
    # The clock of the test is ahead of that by which the resuming was recorded.
    now.time = max(now.time, resumed_at + MINUTE)
    await firing.tick()
    assert (await state(store, paused)) == ScheduleState.ACTIVE
    rest = await outcomes(store, paused)
    assert rest[0] == "started"
    assert set(rest[1:]) <= {"skipped paused", "skipped overlap"}
    now.step(1)
    await firing.tick()
    assert (await outcomes(store, paused))[-1] == "skipped overlap"
    dues = [each.due for each in await told(store, paused)]
    assert dues == sorted(set(dues))


async def test_the_longest_absence_is_told_in_one_event(
    pool: Pool, store: EventStore, firing: Scheduler, now: SetClock
) -> None:
    notebook_id = await scheduled(store, settings(catch_up_seconds=60))
    await firing.tick()
    now.time += timedelta(days=365)
    await firing.tick()
    found = await told(store, notebook_id)
    assert [each.what for each in found] == [
        "started",
        "missed catch_up",
        "skipped overlap",
    ]
    assert "count" not in found[1].data
