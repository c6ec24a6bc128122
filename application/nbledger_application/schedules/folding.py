"""From events to the rows that the scheduler works with."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from nbledger_application.schedules.rows import (
    RUN,
    RunRow,
    RunState,
    ScheduleRow,
    load_schedules,
    save_runs,
    save_schedules,
)
from nbledger_domain.execution import TERMINAL_EVENTS, Execution
from nbledger_domain.notebook import Notebook
from nbledger_domain.schedule import (
    Firing,
    Schedule,
    ScheduleState,
    execution_id_of,
    firing_id_of,
    schedule_id_of,
)
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent

_SCHEDULE_EVENTS: Final = (
    Schedule.Set,
    Schedule.Changed,
    Schedule.Paused,
    Schedule.Resumed,
    Schedule.Ended,
    Schedule.Removed,
    Schedule.RunRequested,
    Schedule.BackfillRequested,
)
_FIRING_EVENTS: Final = (Firing.Started, Firing.Queued, Firing.Skipped, Firing.Missed)
_ENDS: Final = frozenset(event.TYPE for event in TERMINAL_EVENTS)
_RUNS: Final = frozenset({Execution.Requested.TYPE, *_ENDS})

READ: Final = tuple(event.TYPE for event in (*_SCHEDULE_EVENTS, *_FIRING_EVENTS))
"""Types of events that are read whole."""

NOTED: Final = (Notebook.DeletionRequested.TYPE, Notebook.Deleted.TYPE, *sorted(_RUNS))
"""Types of events of which it is enough that they are there."""

_LOAD_RUNS: Final = f"""
SELECT {RUN} FROM schedule_run WHERE firing_id = ANY($1)
UNION SELECT {RUN} FROM schedule_run WHERE execution_id = ANY($2)
"""  # noqa: S608 (constants)


class ScheduleRows:
    """The rows that a batch of events changes."""

    def __init__(self) -> None:
        self._schedules: dict[UUID, ScheduleRow] = {}
        self._runs: dict[UUID, RunRow] = {}
        self._by_execution: dict[UUID, UUID] = {}
        self._over: set[UUID] = set()
        self._deleted: set[UUID] = set()

    async def load(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Bring what ``batch`` concerns into memory."""
        schedules = {schedule_id_of(each.subject_id) for each in batch if each.type not in _RUNS}
        firings = [each.stream_id for each in batch if each.type.startswith("firing.")]
        firings += [firing for each in batch for firing in _asked(each)]
        executions = [each.stream_id for each in batch if each.type in _RUNS]
        if firings or executions:
            for row in await connection.fetch(_LOAD_RUNS, firings, executions):
                self._keep(RunRow(*row))
        schedules |= {run.schedule_id for run in self._runs.values()}
        self._schedules = await load_schedules(connection, schedules)

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type in _RUNS:
            self._apply_run(recorded)
        elif recorded.type == Notebook.DeletionRequested.TYPE:
            self._remove(self._schedules.get(schedule_id_of(recorded.subject_id)))
        elif recorded.type == Notebook.Deleted.TYPE:
            self._delete(schedule_id_of(recorded.subject_id))
        elif (event := decode(recorded)) is not None:
            _HANDLERS[recorded.type](self, recorded, event)

    def schedule(self, schedule_id: UUID) -> ScheduleRow | None:
        """The row of a schedule, after the events so far."""
        return self._schedules.get(schedule_id)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        await save_schedules(connection, list(self._schedules.values()))
        await save_runs(connection, list(self._runs.values()), sorted(self._over))
        if self._deleted:
            await connection.execute(
                "DELETE FROM schedule WHERE schedule_id = ANY($1)", sorted(self._deleted)
            )

    def _keep(self, run: RunRow) -> None:
        self._runs[run.firing_id] = run
        self._by_execution[run.execution_id] = run.firing_id
        self._over.discard(run.firing_id)

    def _end(self, firing_id: UUID) -> RunRow | None:
        """Forget a firing that is over."""
        run = self._runs.pop(firing_id, None)
        if run is not None:
            self._by_execution.pop(run.execution_id, None)
            self._over.add(firing_id)
        return run

    def _delete(self, schedule_id: UUID) -> None:
        self._schedules.pop(schedule_id, None)
        self._deleted.add(schedule_id)
        for run in [run for run in self._runs.values() if run.schedule_id == schedule_id]:
            self._end(run.firing_id)

    def _remove(self, row: ScheduleRow | None) -> None:
        if row is not None:
            row.state = ScheduleState.REMOVED
            row.aim()

    def _apply_run(self, recorded: RecordedEvent) -> None:
        firing_id = self._by_execution.get(recorded.stream_id)
        if firing_id is None:
            return
        run = self._runs[firing_id]
        if recorded.type == Execution.Requested.TYPE:
            run.state = "running"
            return
        self._end(firing_id)
        row = self._schedules.get(run.schedule_id)
        if row is None or recorded.type == Execution.Cancelled.TYPE:
            return
        row.failures = 0 if recorded.type == Execution.Completed.TYPE else row.failures + 1
        row.aim()

    def _set(self, recorded: RecordedEvent, event: Schedule.Set | Schedule.Changed) -> None:
        before = self._schedules.get(recorded.stream_id)
        since = recorded.recorded_at if before is None else max(before.cursor, recorded.recorded_at)
        paused = before is not None and before.state is ScheduleState.PAUSED
        row = ScheduleRow(
            schedule_id=recorded.stream_id,
            notebook_id=recorded.subject_id,
            tenant_id=recorded.tenant_id,
            project_id=recorded.project_id,
            settings=event.settings,
            set_by=event.set_by,
            state=ScheduleState.PAUSED if paused else ScheduleState.ACTIVE,
            cursor=since,
            skip_through=None,
            fires_at=None,
            runs=0,
            failures=0,
            failing=False,
            overlap=event.settings.overlap,
        )
        row.aim()
        self._schedules[recorded.stream_id] = row
        self._deleted.discard(recorded.stream_id)

    def _changed_state(self, recorded: RecordedEvent, event: Schedule.Event) -> None:
        row = self._schedules.get(recorded.stream_id)
        if row is None:
            return
        if isinstance(event, Schedule.Resumed):
            row.skip_through, row.failures = recorded.recorded_at, 0
        row.state = _STATES[type(event)]
        row.aim()

    def _run_requested(self, recorded: RecordedEvent, event: Schedule.RunRequested) -> None:
        self._ask(
            recorded,
            RunRow(
                firing_id=event.firing_id,
                schedule_id=recorded.stream_id,
                due_at=event.due_at,
                trigger="manual",
                state="asked",
                execution_id=execution_id_of(event.firing_id),
                notebook_version=None,
                asked_by=event.requested_by,
                position=recorded.position,
            ),
        )

    def _backfill_requested(
        self, recorded: RecordedEvent, event: Schedule.BackfillRequested
    ) -> None:
        for due in event.due:
            firing_id = firing_id_of(recorded.stream_id, due)
            self._ask(
                recorded,
                RunRow(
                    firing_id=firing_id,
                    schedule_id=recorded.stream_id,
                    due_at=due,
                    trigger="backfill",
                    state="asked",
                    execution_id=execution_id_of(firing_id),
                    notebook_version=None,
                    asked_by=event.requested_by,
                    position=recorded.position,
                ),
            )

    def _ask(self, recorded: RecordedEvent, run: RunRow) -> None:
        if recorded.stream_id in self._schedules and run.firing_id not in self._runs:
            self._keep(run)

    def _started(self, recorded: RecordedEvent, event: Firing.Started) -> None:
        self._decided(
            recorded, event, "starting", event.execution_id, event.notebook_stream_version
        )

    def _queued(self, recorded: RecordedEvent, event: Firing.Queued) -> None:
        self._decided(recorded, event, "queued", execution_id_of(recorded.stream_id), None)

    def _decided(
        self,
        recorded: RecordedEvent,
        event: Firing.Started | Firing.Queued,
        state: RunState,
        execution_id: UUID,
        notebook_version: int | None,
    ) -> None:
        """Count and keep a firing that runs, or will."""
        row = self._schedules.get(event.schedule_id)
        if row is None:
            return
        before = self._runs.get(recorded.stream_id)
        self._count(row, event, before, 1)
        self._keep(
            RunRow(
                firing_id=recorded.stream_id,
                schedule_id=event.schedule_id,
                due_at=event.due_at,
                trigger=event.trigger,
                state=state,
                execution_id=execution_id,
                notebook_version=notebook_version,
                asked_by=None if before is None else before.asked_by,
                position=recorded.position,
            )
        )

    def _passed(self, recorded: RecordedEvent, event: Firing.Skipped | Firing.Missed) -> None:
        before = self._end(recorded.stream_id)
        row = self._schedules.get(event.schedule_id)
        if row is not None:
            self._count(row, event, before, 0)

    def _count(
        self, row: ScheduleRow, event: Firing.Event, before: RunRow | None, counts: int
    ) -> None:
        """Move the schedule on: this firing is dealt with, and runs or waits if it ``counts``."""
        if event.trigger != "manual":
            counted = before is not None and before.state == "queued"
            row.runs += counts - counted
        if event.trigger == "due":
            last = getattr(event, "through", None) or event.due_at
            row.cursor = max(row.cursor, last)
        row.aim()


def _asked(recorded: RecordedEvent) -> list[UUID]:
    """The firings that an event asks for."""
    if recorded.type not in (Schedule.RunRequested.TYPE, Schedule.BackfillRequested.TYPE):
        return []
    event = decode(recorded)
    if isinstance(event, Schedule.RunRequested):
        return [event.firing_id]
    if isinstance(event, Schedule.BackfillRequested):
        return [firing_id_of(recorded.stream_id, due) for due in event.due]
    return []  # erased


_STATES: Final = {
    Schedule.Paused: ScheduleState.PAUSED,
    Schedule.Resumed: ScheduleState.ACTIVE,
    Schedule.Ended: ScheduleState.ENDED,
    Schedule.Removed: ScheduleState.REMOVED,
}

_HANDLERS: Final[dict[str, Callable[[ScheduleRows, RecordedEvent, Any], None]]] = {
    Schedule.Set.TYPE: ScheduleRows._set,  # noqa: SLF001 (its own)
    Schedule.Changed.TYPE: ScheduleRows._set,  # noqa: SLF001
    Schedule.Paused.TYPE: ScheduleRows._changed_state,  # noqa: SLF001
    Schedule.Resumed.TYPE: ScheduleRows._changed_state,  # noqa: SLF001
    Schedule.Ended.TYPE: ScheduleRows._changed_state,  # noqa: SLF001
    Schedule.Removed.TYPE: ScheduleRows._changed_state,  # noqa: SLF001
    Schedule.RunRequested.TYPE: ScheduleRows._run_requested,  # noqa: SLF001
    Schedule.BackfillRequested.TYPE: ScheduleRows._backfill_requested,  # noqa: SLF001
    Firing.Started.TYPE: ScheduleRows._started,  # noqa: SLF001
    Firing.Queued.TYPE: ScheduleRows._queued,  # noqa: SLF001
    Firing.Skipped.TYPE: ScheduleRows._passed,  # noqa: SLF001
    Firing.Missed.TYPE: ScheduleRows._passed,  # noqa: SLF001
}
