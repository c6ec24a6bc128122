"""Firings that wait: asked for, in line behind a run, or with a run that is not recorded yet."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from nbledger_application.concurrently import all_of
from nbledger_application.schedules.firing import FiringRecorder, MakeEvent, queued_event
from nbledger_application.schedules.rows import (
    RUN,
    SCHEDULE,
    RunRow,
    ScheduleRow,
    load_schedules,
    schedule_row,
)
from nbledger_domain.notebook import Notebook
from nbledger_domain.schedule import Firing, FiringOutcome, ScheduleState, SkipReason
from nbledger_domain.schedule.deciding import Standing, overlapping
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.postgres.database import Pool, acquire

log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
MOST_STEPS: Final = 100
"""Of one schedule so many waiting firings are dealt with at a time."""

_STARTING: Final = f"""
SELECT {RUN} FROM schedule_run WHERE state = 'starting' ORDER BY position LIMIT $1
"""  # noqa: S608 (constants)

# Nothing is to be done for those that wait in line while a run of their schedule goes on.
_TO_ADVANCE: Final = f"""
SELECT {SCHEDULE} FROM schedule AS s
WHERE schedule_id IN (SELECT schedule_id FROM schedule_run WHERE state IN ('asked', 'queued'))
    AND (
        state IN ('paused', 'removed') OR overlap IN ('cancelPrevious', 'allow')
        OR EXISTS (
            SELECT FROM schedule_run AS r WHERE r.schedule_id = s.schedule_id AND r.state = 'asked'
        )
        OR NOT EXISTS (
            SELECT FROM schedule_run AS r
            WHERE r.schedule_id = s.schedule_id AND r.state IN ('starting', 'running')
        )
    )
LIMIT $1
"""  # noqa: S608 (constants)

_RUNS: Final = f"""
SELECT {RUN} FROM schedule_run WHERE schedule_id = ANY($1)
ORDER BY schedule_id, position, due_at
"""  # noqa: S608 (constants)


class Waiting:
    """Moves on what waits."""

    def __init__(self, pool: Pool, recorder: FiringRecorder) -> None:
        self._pool = pool
        self._recorder = recorder

    async def finish_starting(self) -> bool:
        """Ask for the runs of firings that are started: a scheduler may have ended before it did.

        Returns whether there were any.
        """
        async with acquire(self._pool) as connection:
            runs = [RunRow(*row) for row in await connection.fetch(_STARTING, AT_ONCE)]
            rows = await load_schedules(connection, {run.schedule_id for run in runs})
        for run in runs:
            row = rows[run.schedule_id]
            loaded = await load(
                self._recorder.store, Notebook, row.notebook_id, up_to_version=run.notebook_version
            )
            if loaded is None:
                await self._forget([run])
                continue
            log.info("run of a firing asked for after all", firing_id=str(run.firing_id))
            await self._recorder.request(row, run, loaded.aggregate)
        return bool(runs)

    async def advance(self) -> bool:
        """Decide on what was asked for, and start what is next in line; whether there was any."""
        async with acquire(self._pool) as connection:
            found = await connection.fetch(_TO_ADVANCE, AT_ONCE)
            rows = [schedule_row(row) for row in found]
            runs = [
                RunRow(*row)
                for row in await connection.fetch(_RUNS, [row.schedule_id for row in rows])
            ]
        if not rows:
            return False
        notebooks = await self._recorder.notebooks([row.notebook_id for row in rows])
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(row: ScheduleRow) -> None:
            of_it = [run for run in runs if run.schedule_id == row.schedule_id]
            async with slots:
                await self._advance_one(row, of_it, notebooks.get(row.notebook_id))

        await all_of(one(row) for row in rows)
        return True

    async def _advance_one(
        self, row: ScheduleRow, runs: Sequence[RunRow], notebook: Notebook | None
    ) -> None:
        waiting = [run for run in runs if run.state in ("asked", "queued")][:MOST_STEPS]
        running = [run for run in runs if run.state in ("starting", "running")]
        if row.state is ScheduleState.REMOVED or notebook is None:
            for run in waiting:
                await self._skip(row, run, "schedule_removed")
            return
        if row.state is ScheduleState.PAUSED:
            for run in [run for run in waiting if run.trigger == "due"]:
                await self._skip(row, run, "paused")
            waiting = [run for run in waiting if run.trigger != "due"]
        standing = Standing(cursor=row.cursor, running=len(running))
        standing.queued = sum(run.state == "queued" for run in waiting)
        if row.overlap == "cancelPrevious" and standing.queued:
            waiting = await self._make_way(row, waiting, running, standing)
        for run in waiting:
            if run.state == "queued":
                await self._next_in_line(row, run, notebook, standing)
            else:
                await self._asked(row, run, notebook, standing)

    async def _next_in_line(
        self, row: ScheduleRow, run: RunRow, notebook: Notebook, standing: Standing
    ) -> None:
        if standing.running and row.overlap != "allow":
            return
        standing.queued -= 1
        await self._start(row, run, notebook, standing, version=1)

    async def _asked(
        self, row: ScheduleRow, run: RunRow, notebook: Notebook, standing: Standing
    ) -> None:
        """Decide on a firing that somebody asked for; what was due before waits in any case."""
        outcome, reason = overlapping(row.settings, standing)
        if run.trigger == "backfill" and outcome is not FiringOutcome.STARTED:
            outcome, reason = FiringOutcome.QUEUED, None
        if outcome is FiringOutcome.STARTED:
            await self._start(row, run, notebook, standing)
        elif outcome is FiringOutcome.QUEUED:
            make = queued_event(row, run.firing_id, run.due_at, run.trigger)
            if await self._recorder.record(row, run.firing_id, make):
                standing.queued += 1
            else:
                await self._forget([run])
        else:
            await self._skip(row, run, reason or "overlap")

    async def _start(
        self,
        row: ScheduleRow,
        run: RunRow,
        notebook: Notebook,
        standing: Standing,
        *,
        version: int = 0,
    ) -> None:
        if not notebook.cells:
            await self._skip(row, run, "nothing_to_execute")
        elif await self._recorder.start(row, run, notebook, version=version):
            standing.running += 1
        else:
            await self._forget([run])

    async def _make_way(
        self,
        row: ScheduleRow,
        waiting: Sequence[RunRow],
        running: Sequence[RunRow],
        standing: Standing,
    ) -> list[RunRow]:
        """Let only the newest of those in line wait, and ask what runs to end."""
        *earlier, newest = [run for run in waiting if run.state == "queued"]
        superseded = [run for run in earlier if run.trigger != "backfill"]
        for run in superseded:
            await self._skip(row, run, "superseded")
        standing.queued -= len(superseded)
        if newest.trigger != "backfill":
            for run in running:
                if await self._recorder.cancel(row, run.execution_id, newest.firing_id):
                    standing.running -= 1
        return [run for run in waiting if run not in superseded]

    async def _skip(self, row: ScheduleRow, run: RunRow, reason: SkipReason) -> None:
        version = 1 if run.state == "queued" else 0
        make = _skipped(row, run, reason)
        if not await self._recorder.record(row, run.firing_id, make, version=version):
            await self._forget([run])

    async def _forget(self, runs: Sequence[RunRow]) -> None:
        """Let go of what was decided on before, of which no news will tell."""
        async with acquire(self._pool) as connection:
            await connection.execute(
                "DELETE FROM schedule_run WHERE firing_id = ANY($1) AND state = ANY($2)",
                [run.firing_id for run in runs],
                [run.state for run in runs],
            )


def _skipped(row: ScheduleRow, run: RunRow, reason: SkipReason) -> MakeEvent:
    return lambda version: Firing.Skipped(
        originator_id=run.firing_id,
        originator_version=version,
        timestamp=clock.now(),
        schedule_id=row.schedule_id,
        due_at=run.due_at,
        trigger=run.trigger,
        reason=reason,
    )
