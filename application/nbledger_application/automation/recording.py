"""Recording what became of changes, and asking for their runs."""

from typing import Any
from uuid import UUID

from msgspec import UNSET

from nbledger_application import repository
from nbledger_application.automation.rows import TriggerRow
from nbledger_application.starting import RunStarter
from nbledger_domain.automation import AutomationSettings, SkipReason, Trigger, changes
from nbledger_domain.automation.chains import merged
from nbledger_domain.execution import Cause
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import clock
from nbledger_infrastructure.actors import AUTOMATION
from nbledger_infrastructure.aggregates import decode, load
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import Metadata, RecordConflictError


class TriggerRecorder(RunStarter):
    """Appends the events of triggers, and the requests of their runs."""

    async def start(self, row: TriggerRow, notebook: Notebook) -> bool:
        """Record that the trigger starts a run, then ask for it; whether it was not decided on."""
        event = Trigger.Started(
            **told(row),
            execution_id=row.execution_id,
            notebook_stream_version=notebook.version,
        )
        event_id = new_id()
        metadata = self._metadata(row)
        if not await self._record(row, event, event_id, metadata):
            return False
        await self._request(row, event, event_id, metadata, notebook)
        return True

    async def skip(self, row: TriggerRow, reason: SkipReason) -> bool:
        """Record that nothing becomes of the trigger; whether it was not decided on before."""
        event = Trigger.Skipped(**told(row), reason=reason)
        return await self._record(row, event, new_id(), self._metadata(row))

    async def finish(self, row: TriggerRow) -> bool:
        """Ask for the run of a trigger that is started; whether there is one to ask for."""
        history = await self.store.read_stream(row.trigger_id, limit=1)
        event = decode(history[0]) if history else None
        if not isinstance(event, Trigger.Started):
            return False
        loaded = await load(
            self.store, Notebook, row.notebook_id, up_to_version=event.notebook_stream_version
        )
        if loaded is None:
            return False
        recorded = history[0]
        await self._request(row, event, recorded.event_id, recorded.metadata, loaded.aggregate)
        return True

    async def _record(
        self, row: TriggerRow, event: Trigger.Event, event_id: UUID, metadata: Metadata
    ) -> bool:
        try:
            await repository.append(
                self.store,
                row.stream(row.trigger_id),
                [event],
                metadata,
                event_ids=[event_id],
            )
        except RecordConflictError:
            return False
        return True

    async def _request(
        self,
        row: TriggerRow,
        event: Trigger.Started,
        event_id: UUID,
        metadata: Metadata,
        notebook: Notebook,
    ) -> None:
        of_dataset = event.kind == "dataset"
        settings = AutomationSettings.of(notebook.integration.auto_execution)
        settings = settings or AutomationSettings()
        await self.request_run(
            row.stream(event.execution_id),
            notebook,
            parameters={},
            options=self.options(
                cell_timeout=settings.cell_timeout, retry_policy=settings.retry_policy
            ),
            tags=settings.tags,
            requested_by=metadata.responsible,
            cause=Cause(
                kind=event.kind,
                dataset_id=event.dataset_id or None,
                dataset_version=event.dataset_version or None,
                notebook_version=None if of_dataset else notebook.notebook_version,
                trigger_id=row.trigger_id,
                changes=event.changes,
            ),
            metadata=Metadata(
                actor=AUTOMATION,
                correlation_id=metadata.correlation_id,
                causation_id=str(event_id),
                traceparent=metadata.traceparent,
                on_behalf_of=metadata.on_behalf_of,
            ),
        )

    def _metadata(self, row: TriggerRow) -> Metadata:
        """In the course of what led to the newest change."""
        newest = changes.newest(row.changes)
        return Metadata(
            actor=AUTOMATION,
            correlation_id=newest.correlation_id or str(row.trigger_id),
            causation_id=str(newest.event_id),
            traceparent=newest.traceparent,
            on_behalf_of=row.set_by,
        )


def told(row: TriggerRow) -> dict[str, Any]:
    """What the event of a trigger says of its changes."""
    newest = changes.newest(row.changes)
    chains = merged(change.chains for change in row.changes)
    return {
        "originator_id": row.trigger_id,
        "originator_version": 1,
        "timestamp": clock.now(),
        "kind": newest.kind,
        "changes": changes.count(row.changes),
        "first_event_id": row.changes[0].first_event_id,
        "last_event_id": newest.event_id,
        "through": newest.position,
        "dataset_id": newest.dataset_id or UNSET,
        "dataset_version": newest.dataset_version or UNSET,
        "chains": UNSET if () in chains else [list(chain) for chain in chains],
    }
