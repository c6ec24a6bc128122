"""Recording what became of firings, and asking for their runs."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from nbledger_application import repository
from nbledger_application.schedules.rows import RunRow, ScheduleRow
from nbledger_application.starting import RunStarter
from nbledger_domain.errors import ExecutionEndedError
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import Cause, Execution
from nbledger_domain.notebook import Notebook
from nbledger_domain.schedule import Firing, FiringOutcome, Trigger, execution_id_of
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.actors import SCHEDULER
from nbledger_infrastructure.postgres.event_store import Metadata, RecordConflictError, Stream

MakeEvent = Callable[[int], Firing.Event]
"""Makes the event of a firing that comes at this version of its stream."""


class FiringRecorder(RunStarter):
    """Appends the events of firings, and the requests of their runs."""

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
        await self.request_run(
            self._stream(row, run.execution_id),
            notebook,
            parameters=row.settings.parameters,
            options=self.options(
                timeout=row.settings.timeout,
                cell_timeout=row.settings.cell_timeout,
                priority=row.settings.priority,
                retry_policy=row.settings.retry_policy,
            ),
            tags=row.settings.tags,
            requested_by=run.asked_by or row.set_by,
            cause=Cause(
                kind="schedule",
                schedule_id=row.schedule_id,
                firing_id=run.firing_id,
                due_at=run.due_at,
                trigger=run.trigger,
            ),
            metadata=self._metadata(row, run.firing_id, on_behalf_of=run.asked_by),
        )

    async def cancel(self, row: ScheduleRow, execution_id: UUID, firing_id: UUID) -> bool:
        """Ask a run to end, so that a later firing can start; returns whether it has ended."""
        try:
            cancelled = await repository.update(
                self.store,
                Execution,
                execution_id,
                lambda execution: execution.request_cancel(requested_by=SCHEDULER, at=clock.now()),
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
            actor=SCHEDULER, correlation_id=str(firing_id), on_behalf_of=on_behalf_of or row.set_by
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
