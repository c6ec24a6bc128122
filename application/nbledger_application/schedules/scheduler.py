"""The scheduler: fires what is due, once each, whatever happens to it in between.

Everything that it decides is an event of the firing, whose id comes of the schedule and the due
time: of two that decide one is heard. What it keeps follows from the events, so that one that is
killed at any point is taken over by reading on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from nbledger_application import repository
from nbledger_application.concurrently import all_of
from nbledger_application.database_clock import Clock, database_time
from nbledger_application.following import Following
from nbledger_application.schedules.firing import (
    FiringRecorder,
    MakeEvent,
)
from nbledger_application.schedules.following import INTERESTS, NAME, ScheduleFollower
from nbledger_application.schedules.rows import SCHEDULE, RunRow, ScheduleRow, schedule_row
from nbledger_application.schedules.waiting import Waiting
from nbledger_domain.errors import DomainError
from nbledger_domain.notebook import Notebook
from nbledger_domain.schedule import Firing, FiringOutcome, Schedule, execution_id_of
from nbledger_domain.schedule.deciding import Decision, Standing, decide, exhausted
from nbledger_infrastructure import clock
from nbledger_infrastructure.actors import SCHEDULER
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata
from nbledger_infrastructure.settings import Executions as ExecutionLimits

log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
"""So many schedules are worked on at a time: their appends go in one batch."""

MOST_DECISIONS: Final = 20
"""Of one schedule so many firings are dealt with at a time."""

_DUE: Final = f"""
SELECT {SCHEDULE} FROM schedule
WHERE state = 'active' AND fires_at <= $1 AND schedule_id <> ALL($2)
ORDER BY fires_at LIMIT $3
"""  # noqa: S608 (constants)

_COUNTS: Final = """
SELECT schedule_id,
    count(*) FILTER (WHERE state IN ('starting', 'running')) AS running,
    count(*) FILTER (WHERE state = 'queued') AS queued
FROM schedule_run WHERE schedule_id = ANY($1) GROUP BY schedule_id
"""

_FINISHED: Final = f"""
SELECT {SCHEDULE} FROM schedule WHERE state = 'active' AND fires_at IS NULL
UNION ALL
SELECT {SCHEDULE} FROM schedule WHERE state = 'active' AND failing AND fires_at IS NOT NULL
LIMIT $1
"""  # noqa: S608 (constants)

_MOVE_ON: Final = """
UPDATE schedule SET cursor = $2, fires_at = $3 WHERE schedule_id = $1 AND cursor < $2
"""

_TO_DO: Final = """
SELECT
    EXISTS (SELECT FROM schedule_run WHERE state = 'starting'),
    EXISTS (SELECT FROM schedule_run WHERE state IN ('asked', 'queued')),
    EXISTS (SELECT FROM schedule WHERE state = 'active' AND fires_at IS NULL)
        OR EXISTS (SELECT FROM schedule WHERE state = 'active' AND failing),
    (SELECT min(fires_at) FROM schedule WHERE state = 'active')
"""


class Scheduler:
    """Fires what is due at each :meth:`tick`; of several processes one at a time should.

    ``holds`` is asked before each batch whether this process still is the one: it raises where it
    is not.
    """

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        limits: ExecutionLimits,
        *,
        now: Clock = database_time,
        holds: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._now = now
        self._holds = holds
        self._following = Following(pool, NAME, INTERESTS, ScheduleFollower(store), holds)
        self._recorder = FiringRecorder(store, limits)
        self._waiting = Waiting(pool, self._recorder)

    async def tick(self) -> float | None:
        """Bring everything up to date; returns the seconds until the next firing, if there is one.

        Raises ``DatabaseUnavailableError``, ``StoreUnavailableError`` and
        ``CheckpointMovedError``; the next call goes on where this one was.
        """
        await self._following.catch_up()
        starting, waiting, telling, due, now = await self._to_do()
        for wanted, step in (
            (starting, self._waiting.finish_starting),
            (waiting, self._waiting.advance),
            (telling, self._tell),
        ):
            if wanted and await step():
                await self._following.catch_up()
        if due is not None and due <= now:
            await self._fire()
            *_, due, now = await self._to_do()
        return None if due is None else (due - now).total_seconds()

    async def _to_do(self) -> tuple[bool, bool, bool, datetime | None, datetime]:
        """Which steps have something to do, when the next firing is, and what time it is."""
        async with acquire(self._pool) as connection:
            row = await connection.fetchrow(_TO_DO)
            assert row is not None  # noqa: S101 (a query of scalars has one row)
            return *row, await self._now(connection)

    async def _check(self) -> None:
        if self._holds is not None:
            await self._holds()

    async def _fire(self) -> None:
        """Decide on all that is due by now, in batches; one is decided while one is appended."""
        # Schedules that cannot go on now, and those whose events are on their way.
        stuck: list[UUID] = []
        under_way: list[UUID] = []
        appending: asyncio.Task[list[UUID]] | None = None
        try:
            while True:
                await self._check()
                rows, decisions = await self._due([*stuck, *under_way])
                notebooks = await self._notebooks(rows, decisions)
                if appending is not None:
                    stuck += await appending
                    appending = None
                elif not rows:
                    return
                under_way = [row.schedule_id for row in rows]
                if rows:
                    appending = asyncio.create_task(self._record(rows, decisions, notebooks))
                # The batch before is recorded by now; what it has moved on can be due again.
                await self._following.catch_up()
        finally:
            if appending is not None:
                appending.cancel()
                await asyncio.gather(appending, return_exceptions=True)

    async def _due(
        self, but: Sequence[UUID]
    ) -> tuple[list[ScheduleRow], dict[UUID, list[Decision]]]:
        """The next schedules that are due, and what becomes of it."""
        async with acquire(self._pool) as connection:
            now = await self._now(connection)
            rows = [schedule_row(row) for row in await connection.fetch(_DUE, now, but, AT_ONCE)]
            if not rows:
                return [], {}
            counts = await connection.fetch(_COUNTS, [row.schedule_id for row in rows])
        standings = {row.schedule_id: _standing(row) for row in rows}
        for found in counts:
            standing = standings[found["schedule_id"]]
            standing.running, standing.queued = found["running"], found["queued"]
        decisions = {
            row.schedule_id: decide(
                row.schedule_id, row.settings, standings[row.schedule_id], now, most=MOST_DECISIONS
            )
            for row in rows
        }
        return rows, decisions

    async def _notebooks(
        self, rows: Sequence[ScheduleRow], decisions: Mapping[UUID, Sequence[Decision]]
    ) -> dict[UUID, Notebook]:
        """The notebooks of those that start."""
        return await self._recorder.notebooks(
            [
                row.notebook_id
                for row in rows
                if any(each.outcome is FiringOutcome.STARTED for each in decisions[row.schedule_id])
            ]
        )

    async def _record(
        self,
        rows: Sequence[ScheduleRow],
        decisions: Mapping[UUID, Sequence[Decision]],
        notebooks: Mapping[UUID, Notebook],
    ) -> list[UUID]:
        """Append what was decided; returns the schedules with which that cannot go on now."""
        done = await all_of(
            self._record_one(row, decisions[row.schedule_id], notebooks.get(row.notebook_id))
            for row in rows
        )
        return [row.schedule_id for row, went in zip(rows, done, strict=True) if not went]

    async def _record_one(
        self, row: ScheduleRow, decisions: Sequence[Decision], notebook: Notebook | None
    ) -> bool:
        """Append decisions on one schedule, one after the other: what comes first is told first."""
        if not decisions:
            await self._pass(row)
            return False
        for decision in decisions:
            if decision.outcome is FiringOutcome.STARTED and notebook is None:
                return False  # it is being deleted, and its schedule with it
            appended = await self._append(row, decision, notebook)
            if not appended:
                row.cursor = max(row.cursor, decision.last)
                row.aim()
                await self._pass(row)
        return True

    async def _append(
        self, row: ScheduleRow, decision: Decision, notebook: Notebook | None
    ) -> bool:
        if decision.outcome is FiringOutcome.STARTED and notebook is not None and notebook.cells:
            run = RunRow(
                firing_id=decision.firing_id,
                schedule_id=row.schedule_id,
                due_at=decision.due_at,
                trigger="due",
                state="starting",
                execution_id=execution_id_of(decision.firing_id),
                notebook_version=notebook.version,
                asked_by=None,
                position=0,
            )
            return await self._recorder.start(row, run, notebook)
        return await self._recorder.record(row, decision.firing_id, _event(row, decision))

    async def _pass(self, row: ScheduleRow) -> None:
        """Move on past what somebody else has decided on, which no news will tell of."""
        async with acquire(self._pool) as connection:
            await connection.execute(_MOVE_ON, row.schedule_id, row.cursor, row.fires_at)

    async def _tell(self) -> bool:
        """Record that schedules have ended, and pause those whose runs fail."""
        async with acquire(self._pool) as connection:
            rows = [schedule_row(row) for row in await connection.fetch(_FINISHED, AT_ONCE)]
        await all_of(self._tell_one(row) for row in rows)
        return bool(rows)

    async def _tell_one(self, row: ScheduleRow) -> None:
        if row.settings.faults():
            return  # its zone is not known here; where it is, it goes on

        def change(schedule: Schedule) -> None:
            if row.failing:
                schedule.pause("failures", at=clock.now(), failures=row.failures)
                return
            spent = exhausted(row.settings, _standing(row))
            schedule.end("max_runs" if spent else "end", at=clock.now())

        metadata = Metadata(
            actor=SCHEDULER, correlation_id=str(row.schedule_id), on_behalf_of=row.set_by
        )
        try:
            await repository.update(self._store, Schedule, row.schedule_id, change, metadata)
        except DomainError:
            return
        log.info("schedule fires no more for now", schedule_id=str(row.schedule_id))


def _standing(row: ScheduleRow) -> Standing:
    return Standing(cursor=row.cursor, skip_through=row.skip_through, runs=row.runs)


def _event(row: ScheduleRow, decision: Decision) -> MakeEvent:
    """What became of a firing that does not start."""

    def make(version: int) -> Firing.Event:
        common: dict[str, Any] = {
            "originator_id": decision.firing_id,
            "originator_version": version,
            "timestamp": clock.now(),
            "schedule_id": row.schedule_id,
            "due_at": decision.due_at,
            "trigger": "due",
        }
        if decision.outcome is FiringOutcome.QUEUED:
            return Firing.Queued(**common)
        if decision.through is not None:
            common["through"] = decision.through
        if decision.count is not None:
            common["count"] = decision.count
        if decision.outcome is FiringOutcome.MISSED:
            return Firing.Missed(**common, reason="catch_up")
        return Firing.Skipped(**common, reason=decision.reason or "nothing_to_execute")

    return make
