"""Recording what became of firings, and asking for their runs."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from nbledger_application import repository
from nbledger_application.schedules.following import ACTOR
from nbledger_application.schedules.rows import RunRow, ScheduleRow
from nbledger_domain.errors import ExecutionEndedError
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import Cause, Execution, PlannedCell, RunOptions
from nbledger_domain.notebook import Notebook
from nbledger_domain.schedule import Firing, FiringOutcome, Trigger, execution_id_of
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.aggregates import replay
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordConflictError,
    RecordedEvent,
    Stream,
)
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_infrastructure.settings import Executions as ExecutionLimits

_NOTEBOOKS: Final = f"""
SELECT {COLUMNS} FROM event WHERE stream_id = ANY($1) ORDER BY stream_id, version
"""  # noqa: S608 (constants)

MakeEvent = Callable[[int], Firing.Event]
"""Makes the event of a firing that comes at this version of its stream."""


class FiringRecorder:
    """Appends the events of firings, and the requests of their runs."""

    def __init__(self, store: EventStore, limits: ExecutionLimits) -> None:
        self.store = store
        self._limits = limits

    async def notebooks(self, notebook_ids: Sequence[UUID]) -> dict[UUID, Notebook]:
        """These notebooks as they are now, without those that are deleted or about to be."""
        if not notebook_ids:
            return {}
        async with self.store.reading() as connection:
            rows = await connection.fetch(_NOTEBOOKS, notebook_ids)
        histories: dict[UUID, list[RecordedEvent]] = {}
        for row in rows:
            recorded = recorded_event(row)
            histories.setdefault(recorded.stream_id, []).append(recorded)
        found: dict[UUID, Notebook] = {}
        for notebook_id, history in histories.items():
            notebook = replay(Notebook, history)
            if notebook is not None and not (notebook.deleted or notebook.deletion_requested):
                found[notebook_id] = notebook
        return found

    async def record(
        self, row: ScheduleRow, firing_id: UUID, make: MakeEvent, *, version: int = 0
    ) -> bool:
        """Append an event of a firing that is believed to be at ``version``.

        Returns whether it was appended: somebody else may have decided on it before. What was
        skipped or missed can still be started or queued, what is queued started or skipped.
        """
        event = make(version + 1)
        while True:
            try:
                await repository.append(
                    self.store,
                    self._stream(row, firing_id),
                    [event],
                    self._metadata(row, firing_id),
                )
            except RecordConflictError:
                loaded = await aggregates.load(self.store, Firing, firing_id)
                if loaded is None or not _may_follow(loaded.aggregate, event):
                    return False
                event = make(loaded.aggregate.version + 1)
            else:
                return True

    async def start(
        self,
        row: ScheduleRow,
        run: RunRow,
        notebook: Notebook,
        *,
        version: int = 0,
    ) -> bool:
        """Record that the firing is started, then ask for its run; whether it was not before."""
        started = await self.record(
            row,
            run.firing_id,
            started_event(row, run.firing_id, run.due_at, run.trigger, notebook),
            version=version,
        )
        if started:
            await self.request(row, run, notebook)
        return started

    async def request(self, row: ScheduleRow, run: RunRow, notebook: Notebook) -> None:
        """Ask for the run of a firing that is started; if that is done already, do nothing."""
        execution = Execution.request(
            run.execution_id,
            notebook_id=notebook.id,
            notebook_version=notebook.notebook_version,
            notebook_stream_version=notebook.version,
            kernel_type=notebook.kernel_type,
            cells=[PlannedCell(cell.cell_id, cell.cell_type) for cell in notebook.cells],
            parameters=row.settings.parameters,
            options=self._options(row),
            requested_by=run.asked_by or row.set_by,
            at=clock.now(),
            cause=Cause(
                kind="schedule",
                schedule_id=row.schedule_id,
                firing_id=run.firing_id,
                due_at=run.due_at,
                trigger=run.trigger,
            ),
        )
        try:
            await repository.save(
                self.store,
                execution,
                self._stream(row, run.execution_id),
                self._metadata(row, run.firing_id, on_behalf_of=run.asked_by),
            )
        except RecordConflictError:
            return

    def _options(self, row: ScheduleRow) -> RunOptions:
        # The bound may be lower than when the schedule was set.
        asked = row.settings.timeout or self._limits.default_timeout
        return RunOptions(
            timeout=min(asked, self._limits.max_timeout), priority=row.settings.priority
        )

    async def cancel(self, row: ScheduleRow, execution_id: UUID, firing_id: UUID) -> bool:
        """Ask a run to end, so that a later firing can start; returns whether it has ended."""
        try:
            cancelled = await repository.update(
                self.store,
                Execution,
                execution_id,
                lambda execution: execution.request_cancel(requested_by=ACTOR, at=clock.now()),
                self._metadata(row, firing_id),
            )
        except ExecutionEndedError:
            return True
        return cancelled is not None and cancelled[0].aggregate.ended

    def _stream(self, row: ScheduleRow, stream_id: UUID) -> Stream:
        return Stream(stream_id, row.notebook_id, row.tenant_id, row.project_id)

    def _metadata(
        self, row: ScheduleRow, firing_id: UUID, *, on_behalf_of: str | None = None
    ) -> Metadata:
        return Metadata(
            actor=ACTOR, correlation_id=str(firing_id), on_behalf_of=on_behalf_of or row.set_by
        )


def _may_follow(firing: Firing, event: DomainEvent) -> bool:
    """Whether ``event`` can come after what has been decided on a firing."""
    if isinstance(event, Firing.Started):
        if firing.outcome is FiringOutcome.QUEUED:
            return True
        return event.trigger == "backfill" and not firing.started
    if isinstance(event, Firing.Queued):
        passed = firing.outcome in (FiringOutcome.SKIPPED, FiringOutcome.MISSED)
        return event.trigger == "backfill" and passed
    return isinstance(event, Firing.Skipped) and firing.outcome is FiringOutcome.QUEUED


def started_event(
    row: ScheduleRow, firing_id: UUID, due_at: datetime, trigger: Trigger, notebook: Notebook
) -> MakeEvent:
    """That the firing is started."""
    return lambda version: Firing.Started(
        originator_id=firing_id,
        originator_version=version,
        timestamp=clock.now(),
        schedule_id=row.schedule_id,
        due_at=due_at,
        trigger=trigger,
        execution_id=execution_id_of(firing_id),
        notebook_stream_version=notebook.version,
    )


def queued_event(
    row: ScheduleRow, firing_id: UUID, due_at: datetime, trigger: Trigger
) -> MakeEvent:
    """That the firing waits."""
    return lambda version: Firing.Queued(
        originator_id=firing_id,
        originator_version=version,
        timestamp=clock.now(),
        schedule_id=row.schedule_id,
        due_at=due_at,
        trigger=trigger,
    )
