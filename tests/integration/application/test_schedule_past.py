"""Runs of a schedule at an earlier position are counted as the scheduler counts them."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.utils import get_topic
from support.stories import BY_TESTER

from nbledger_application import repository
from nbledger_application.schedules.folding import ScheduleRows
from nbledger_application.schedules.past import counted_runs_then
from nbledger_domain.schedule import (
    Firing,
    Schedule,
    ScheduleSettings,
    firing_id_of,
    schedule_id_of,
)
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Stream

PROJECT = UUID(int=6)

COURSES: tuple[tuple[type[Firing.Event], ...], ...] = (
    (Firing.Started,),
    (Firing.Queued,),
    (Firing.Queued, Firing.Started),
    (Firing.Queued, Firing.Skipped),
    (Firing.Skipped,),
    (Firing.Missed,),
    (Firing.Missed, Firing.Started),
)
MORE: dict[type[Firing.Event], dict[str, Any]] = {
    Firing.Started: {"execution_id": UUID(int=1), "notebook_stream_version": 1},
    Firing.Skipped: {"reason": "overlap"},
    Firing.Missed: {"reason": "catch_up"},
}


class Reading:
    """A connection that counts the rows that come over it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.rows = 0

    async def fetch(self, *query: Any) -> Any:
        found = await self._connection.fetch(*query)
        self.rows += len(found)
        return found

    async def fetchrow(self, *query: Any) -> Any:
        self.rows += 1
        return await self._connection.fetchrow(*query)

    async def fetchval(self, *query: Any) -> Any:
        self.rows += 1
        return await self._connection.fetchval(*query)


@pytest.mark.guarantee("G46")
async def test_runs_are_counted_where_they_are(pool: Pool, store: EventStore) -> None:
    """By the database: all firings of a schedule that runs each minute are many."""
    dice = random.Random(4)
    notebook_id = uuid.uuid4()
    schedule_id = schedule_id_of(notebook_id)
    last: dict[UUID, int] = {}

    async def add(kind: Any, stream_id: UUID, **members: Any) -> None:
        last[stream_id] = last.get(stream_id, 0) + 1
        event = kind(
            originator_id=stream_id,
            originator_version=last[stream_id],
            timestamp=now(),
            **members,
        )
        stream = Stream(stream_id, notebook_id, PROJECT, PROJECT)
        await repository.append(store, stream, [event], BY_TESTER)

    settings = [ScheduleSettings(cron=f"{minute} 3 * * *", max_runs=90) for minute in range(3)]
    kind: Any = Schedule.Set
    waiting: list[tuple[UUID, list[type[Firing.Event]], dict[str, Any]]] = []
    for number in range(75):
        if number % 25 == 0:
            made: dict[str, Any] = (
                {}
                if last
                else {"originator_topic": get_topic(Schedule), "notebook_id": notebook_id}
            )
            chosen_settings = settings[number // 25]
            await add(kind, schedule_id, settings=chosen_settings, set_by="tester", **made)
            kind = Schedule.Changed
        if number % 2 == 0:
            due = datetime(2024, 1, 1, 3, tzinfo=UTC) + timedelta(days=number)
            trigger = dice.choice(["due", "due", "manual", "backfill"])
            given = {"schedule_id": schedule_id, "due_at": due, "trigger": trigger}
            waiting.append((firing_id_of(schedule_id, due), [*dice.choice(COURSES)], given))
        if waiting:
            chosen = dice.randrange(len(waiting))
            firing_id, course, given = waiting[chosen]
            event = course.pop(0)
            await add(event, firing_id, **given, **MORE.get(event, {}))
            if not course:
                del waiting[chosen]

    rows = ScheduleRows()
    seen: set[int] = set()
    async with acquire(pool) as connection:
        assert await counted_runs_then(connection, notebook_id, settings[0], 0) == 0
        for recorded in await store.read_all(after_position=0, limit=1000):
            rows.apply(recorded)
            schedule = rows.schedule(schedule_id)
            assert schedule is not None
            reading: Any = Reading(connection)
            for each in settings:
                expected = schedule.runs if schedule.settings == each else 0
                counted = await counted_runs_then(reading, notebook_id, each, recorded.position)
                assert counted == expected, recorded
                seen.add(counted)
            assert reading.rows <= 2 * len(settings)
    assert max(seen) > 5
