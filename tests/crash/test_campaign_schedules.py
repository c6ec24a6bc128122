"""Schedulers killed at random over a simulated day whose clock is set, and a full minute.

Every due time has to be dealt with once, and every event of it has to add up.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from support.campaigns import Tally, conclude, times
from support.managers import PATIENCE, scene
from support.schedules import CALLER, MINUTE, end_runs, scheduled

from nbledger_application import queue
from nbledger_domain.errors import ExecutionEndedError
from nbledger_domain.execution import Execution
from nbledger_domain.schedule import ScheduleSettings, execution_id_of, firing_id_of, schedule_id_of
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=240, ci=600, full=1800)),
    pytest.mark.skipif(sys.platform != "linux", reason="stops processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

KILLS = times(small=5, ci=15, full=50)
HOURS = times(small=4, ci=8, full=24)
TAKEOVER_SECONDS = 10.0
"""From a kill, or a stop, until another one is at work; of the clock of this machine."""
STEP = timedelta(minutes=5)
STEP_SECONDS = 0.2
STOPS = times(small=1, ci=2, full=10)
AT_ONCE = times(small=300, ci=2_000, full=10_000)
LAG_SECONDS = 5.0

# A simulated hour is over in seconds: what takes a scheduler's place takes hours of it.
_ALL = timedelta(days=2) // timedelta(seconds=1)


async def _work(pool: Pool, store: EventStore) -> None:
    """End every run after half a second, until cancelled: others come due meanwhile."""
    while True:
        for each in await queue.late(pool, seconds=0.5):
            with suppress(ExecutionEndedError):  # it was cancelled for the one after it
                await end_runs(store, [each])
        await asyncio.sleep(0.1)


def _settings(start: datetime, overlap: Any, **members: Any) -> ScheduleSettings:
    common = {"cron": "*/5 * * * *", "start": start, "catch_up_seconds": _ALL}
    return ScheduleSettings(**{**common, "overlap": overlap, **members})


@pytest.mark.guarantee("G29")
async def test_a_day_of_kills_and_clocks_that_are_set(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("schedulers killed", TAKEOVER_SECONDS, record_property)
    async with scene(database_dsn) as stage:
        start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        await stage.set_clock(start - MINUTE)
        kinds = {
            "allow": _settings(start, "allow"),
            "shaken": _settings(start, "allow", cron="*/3 * * * *", jitter_seconds=170),
            "skip": _settings(start, "skip"),
            "one": _settings(start, "queueOne"),
            "all": _settings(start, "queueAll", cron="*/20 * * * *"),
            "previous": _settings(start, "cancelPrevious"),
            "zone": _settings(start, "allow", cron="17 */2 * * *", time_zone="Asia/Kathmandu"),
        }
        notebooks = {name: await scheduled(stage.store, each) for name, each in kinds.items()}
        schedulers = [await stage.start(), await stage.start()]
        working = asyncio.create_task(_work(stage.pool, stage.store))
        now, latest = start - MINUTE, start
        steps = round(timedelta(hours=HOURS) / STEP)
        kills = set(tally.random.sample(range(steps), KILLS))
        killing: asyncio.Task[None] | None = None
        for step in range(steps):
            now += STEP
            if tally.random.random() < 0.1:
                now += tally.random.choice([-2, 2]) * STEP
            await stage.set_clock(now)
            latest = max(latest, now)
            if step in kills:
                if killing is not None:
                    await killing
                killing = asyncio.create_task(stage.kill(schedulers, tally, "scheduler"))
            await asyncio.sleep(STEP_SECONDS)
        if killing is not None:
            await killing
        await stage.set_clock(latest + timedelta(seconds=170))
        await stage.until(
            "NOT EXISTS (SELECT FROM schedule WHERE fires_at <= (SELECT time FROM test_clock))"
            " AND NOT EXISTS (SELECT FROM schedule_run)"
        )
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        counts: Counter[str] = Counter()
        for name, notebook_id in notebooks.items():
            due = kinds[name].upcoming(start - MINUTE, count=10_000, through=latest)
            counts += await _check(stage.store, notebook_id, due, tally)
        record_property("schedules", dict(counts))
        tally.what += f"; firings: {', '.join(f'{n} {w}' for w, n in sorted(counts.items()))}"
    conclude(KILLS, tally)


async def _check(
    store: EventStore, notebook_id: UUID, due: list[datetime], tally: Tally
) -> Counter[str]:
    """Note each due time that is not dealt with once, and each run that no firing has."""
    facts: dict[UUID, list[str]] = {}
    runs: Counter[UUID] = Counter()
    for recorded in await store.read_subject(notebook_id):
        if recorded.type.startswith("firing."):
            facts.setdefault(recorded.stream_id, []).append(recorded.type.split(".")[1])
            data = msgspec.json.decode(recorded.data or b"{}")
            tally.expect("through" not in data, f"told together: {data}")
        elif recorded.type == Execution.Requested.TYPE:
            runs[recorded.stream_id] += 1
    allowed = (["started"], ["skipped"], ["queued", "started"], ["queued", "skipped"])
    schedule_id = schedule_id_of(notebook_id)
    for each in due:
        firing_id = firing_id_of(schedule_id, each)
        found = facts.get(firing_id, [])
        tally.expect(found in allowed, f"{each}: {found}")
        wanted = 1 if "started" in found else 0
        seen = runs.pop(execution_id_of(firing_id), 0)
        tally.expect(seen == wanted, f"{each}: {seen} runs of {found}")
    # The clock was past the last by less than a step: one firing more may have come.
    beyond = len(facts) - len(due)
    tally.expect(0 <= beyond <= 1, f"{len(facts)} firings for {len(due)} due times")
    tally.expect(sum(runs.values()) <= beyond, f"{len(runs)} runs without a firing")
    return Counter(each[-1] for each in facts.values())


async def test_many_that_are_due_in_one_minute_start_at_once(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally(f"{AT_ONCE} schedules due at once", LAG_SECONDS, record_property)
    async with scene(database_dsn) as stage:
        due = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
        await stage.set_clock(due - MINUTE)
        slots = asyncio.Semaphore(64)

        async def one(_: int) -> None:
            async with slots:
                await scheduled(stage.store, _settings(due, "skip", cron="0 * * * *"), cells=5)

        await asyncio.gather(*(one(number) for number in range(AT_ONCE)))
        await stage.start()
        await stage.until(f"(SELECT count(*) FROM schedule WHERE fires_at IS NOT NULL) = {AT_ONCE}")
        # What was before is over when the minute comes, as it is elsewhere.
        async with acquire(stage.pool) as connection:
            for table in ("event", "schedule", "schedule_run", "execution_queue"):
                await connection.execute(f"VACUUM ANALYZE {table}", timeout=PATIENCE)
        at = await stage.set_clock(due)
        await stage.until(
            f"(SELECT count(*) FROM schedule_run WHERE state = 'running') >= {AT_ONCE}"
        )
        async with acquire(stage.pool) as connection:
            rows = await connection.fetch(
                "SELECT recorded_at FROM event WHERE type = $1 AND tenant_id = $2",
                Execution.Requested.TYPE,
                CALLER.tenant_id,
            )
        lags = sorted((row["recorded_at"] - at).total_seconds() for row in rows)
        tally.expect(len(lags) == AT_ONCE, f"{len(lags)} runs")
        worst = lags[len(lags) * 99 // 100]
        tally.what += f"; median {lags[len(lags) // 2]:.2f} s, last {lags[-1]:.2f} s"
        tally.took(worst, "p99 of the start")
    conclude(1, tally)


async def test_one_that_is_stopped_is_taken_over(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    """It holds its connection, and no clock is in its lease: its silence gives it away."""
    tally = Tally("stopped schedulers", TAKEOVER_SECONDS, record_property)
    async with scene(database_dsn) as stage:
        start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        await stage.set_clock(start - MINUTE)
        notebook_id = await scheduled(stage.store, _settings(start, "allow"))
        first, second = await stage.start(), await stage.start()
        now = start
        for stopped in range(STOPS):
            holder, other = (first, second) if stopped % 2 == 0 else (second, first)
            await stage.until("EXISTS (SELECT FROM schedule)")
            holder.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            try:
                # Set back on the way: by the clock of the database that lease would be good.
                await stage.set_clock(now - timedelta(minutes=10))
                await stage.set_clock(now)
                await stage.until(
                    "EXISTS (SELECT FROM schedule WHERE cursor >= (SELECT time FROM test_clock))"
                )
                tally.took(time.monotonic() - began, "taken over")
                now += STEP
            finally:
                holder.send_signal(signal.SIGCONT)
            await stage.set_clock(now)
            await stage.until(
                "EXISTS (SELECT FROM schedule WHERE cursor >= (SELECT time FROM test_clock))"
            )
            now += STEP
            assert other.returncode is None
        due = [start + number * STEP for number in range(2 * STOPS)]
        await stage.until("NOT EXISTS (SELECT FROM schedule_run WHERE state = 'starting')")
        await _check(stage.store, notebook_id, due, tally)
    conclude(STOPS, tally)
