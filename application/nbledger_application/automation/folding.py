"""From events to the rows that automatic execution works with."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from nbledger_application.automation.rows import (
    AutomationRow,
    TriggerRow,
    TriggerState,
    load,
    save,
)
from nbledger_domain.automation import (
    AutomationSettings,
    SkipReason,
    Trigger,
    TriggeringChange,
    bound_dataset,
    changes,
    execution_id_of,
    trigger_id_of,
)
from nbledger_domain.automation.chains import NO_CHAIN, Chain, short_enough, without_loops
from nbledger_domain.dataset import Dataset
from nbledger_domain.execution import TERMINAL_EVENTS, Execution
from nbledger_domain.notebook import Integration, Notebook
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent

_ENDS: Final = frozenset(event.TYPE for event in TERMINAL_EVENTS)
_DATASETS: Final = frozenset({Dataset.VersionAdded.TYPE, Dataset.Deleted.TYPE})
BUSY: Final = ("starting", "running")
"""States of a trigger whose run may still go on."""

READ: Final = (
    Notebook.IntegrationConfigured.TYPE,
    Dataset.VersionAdded.TYPE,
    Trigger.Started.TYPE,
    Trigger.Skipped.TYPE,
)
"""Types of events that are read whole."""

NOTED: Final = (
    Notebook.CellsUpdated.TYPE,
    Notebook.DeletionRequested.TYPE,
    Notebook.Deleted.TYPE,
    Dataset.Deleted.TYPE,
    Execution.Requested.TYPE,
    *sorted(_ENDS),
)
"""Types of events of which it is enough that they are there."""


class AutomationRows:
    """The rows that a batch of events changes.

    ``integrations`` are the settings of notebooks that the batch creates, ``chains`` those of the
    dataset versions in it that runs have made, both by the id of their event. Changes up to the
    position ``since`` start nothing.
    """

    def __init__(
        self,
        integrations: Mapping[UUID, Integration],
        chains: Mapping[UUID, Sequence[Chain]],
        since: int,
    ) -> None:
        self._integrations = integrations
        self._chains = chains
        self._since = since
        self._rows: dict[UUID, AutomationRow] = {}
        self._bound: defaultdict[UUID, set[UUID]] = defaultdict(set)
        # By notebook, then by id.
        self._triggers: defaultdict[UUID, dict[UUID, TriggerRow]] = defaultdict(dict)
        self._off: set[UUID] = set()
        self._over: set[UUID] = set()
        self._touched: set[UUID] = set()

    async def load(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Bring what ``batch`` concerns into memory."""
        rows, triggers = await load(
            connection,
            {each.subject_id for each in batch if each.type not in _DATASETS},
            {each.stream_id for each in batch if each.type in _DATASETS},
        )
        for row in rows:
            self._bind(row)
        for trigger in triggers:
            self._triggers[trigger.notebook_id][trigger.trigger_id] = trigger

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type in _ENDS:
            self._ended(recorded)
        else:
            _HANDLERS[recorded.type](self, recorded)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        touched = [each for notebook_id in self._touched for each in self._of(notebook_id)]
        await save(
            connection,
            [self._rows[each] for each in sorted(self._touched & self._rows.keys())],
            # Of a notebook one at a time gathers: what does no more comes first.
            sorted(touched, key=lambda trigger: trigger.state == "gathering"),
            off=sorted(self._off),
            over=sorted(self._over),
        )

    # --- what a notebook says -----------------------------------------------------------------

    def _created(self, recorded: RecordedEvent) -> None:
        integration = self._integrations.get(recorded.event_id)
        if integration is not None:
            self._configure(recorded, integration)

    def _configured(self, recorded: RecordedEvent) -> None:
        event = decode(recorded)
        if isinstance(event, Notebook.IntegrationConfigured):
            self._configure(recorded, event.integration)

    def _configure(self, recorded: RecordedEvent, integration: Integration) -> None:
        notebook_id = recorded.subject_id
        settings = AutomationSettings.of(integration.auto_execution)
        before = self._rows.get(notebook_id)
        if settings is None:
            if before is not None:
                self._give_up(self._gathering(notebook_id), "switched_off")
                self._switch_off(notebook_id)
            return
        dataset_id = bound_dataset(settings, integration.dataset_binding)
        if before is not None and (before.settings, before.dataset_id) == (settings, dataset_id):
            return
        row = AutomationRow(
            notebook_id=notebook_id,
            tenant_id=recorded.tenant_id,
            project_id=recorded.project_id,
            settings=settings,
            set_by=recorded.metadata.responsible,
            dataset_id=dataset_id,
            started_at=None if before is None else before.started_at,
        )
        self._bind(row)
        self._off.discard(notebook_id)
        self._keep_wanted(row)

    def _keep_wanted(self, row: AutomationRow) -> None:
        """Let go of gathered changes that are none any more by the settings of now."""
        trigger = self._gathering(row.notebook_id)
        if trigger is not None:
            wanted = changes.wanted(trigger.changes, row.settings, row.dataset_id)
            if wanted:
                trigger.changes, trigger.set_by = wanted, row.set_by
            else:
                off = changes.newest(trigger.changes).kind not in row.settings.on
                self._give_up(trigger, "switched_off" if off else "unbound")
        self._aim(row.notebook_id)

    def _deletion_requested(self, recorded: RecordedEvent) -> None:
        """What its changes would have become is erased with it."""
        self._remove(recorded.subject_id, ("gathering", "skipping"))

    def _deleted(self, recorded: RecordedEvent) -> None:
        self._remove(recorded.subject_id, ("gathering", "skipping", *BUSY))

    def _remove(self, notebook_id: UUID, states: Sequence[str]) -> None:
        self._switch_off(notebook_id)
        for trigger in self._of(notebook_id):
            if trigger.state in states:
                self._end(trigger)

    def _bind(self, row: AutomationRow) -> None:
        """Keep a row, in place of another one of its notebook."""
        self._unbind(row.notebook_id)
        self._rows[row.notebook_id] = row
        if row.dataset_id is not None:
            self._bound[row.dataset_id].add(row.notebook_id)

    def _unbind(self, notebook_id: UUID) -> None:
        before = self._rows.pop(notebook_id, None)
        if before is not None and before.dataset_id is not None:
            self._bound[before.dataset_id].discard(notebook_id)

    def _switch_off(self, notebook_id: UUID) -> None:
        self._unbind(notebook_id)
        self._off.add(notebook_id)
        self._touched.add(notebook_id)

    # --- what changes -------------------------------------------------------------------------

    def _cells_updated(self, recorded: RecordedEvent) -> None:
        row = self._rows.get(recorded.subject_id)
        if row is not None and "cells" in row.settings.on:
            self._change(row, recorded, _change(recorded))

    def _version_added(self, recorded: RecordedEvent) -> None:
        event = decode(recorded)
        if not isinstance(event, Dataset.VersionAdded):
            return  # erased: the deletion follows
        chains = self._chains.get(recorded.event_id, NO_CHAIN)
        for row in self._bound_to(recorded):
            change = _change(recorded, event.dataset_version)
            going_on = without_loops(chains, row.notebook_id)
            short = short_enough(going_on)
            reason: SkipReason | None = None
            if not short:
                reason = "chain_too_long" if going_on else "loop"
            self._change(row, recorded, change.by(short or chains), reason)

    def _dataset_deleted(self, recorded: RecordedEvent) -> None:
        for row in self._bound_to(recorded):
            trigger = self._gathering(row.notebook_id)
            if trigger is not None:
                left = changes.wanted(trigger.changes, row.settings, None)
                if left:
                    trigger.changes = left
                else:
                    self._give_up(trigger, "dataset_deleted")
                self._aim(row.notebook_id)

    def _bound_to(self, recorded: RecordedEvent) -> list[AutomationRow]:
        place = (recorded.stream_id, recorded.tenant_id, recorded.project_id)
        found = [self._rows[each] for each in sorted(self._bound[recorded.stream_id])]
        return [row for row in found if (row.dataset_id, row.tenant_id, row.project_id) == place]

    def _change(
        self,
        row: AutomationRow,
        recorded: RecordedEvent,
        change: TriggeringChange,
        reason: SkipReason | None = None,
    ) -> None:
        """Gather a change, or with a ``reason`` have it told that nothing becomes of it."""
        if recorded.position <= self._since:
            return
        trigger = None if reason else self._gathering(row.notebook_id)
        if trigger is None:
            self._keep(
                TriggerRow(
                    trigger_id=trigger_id_of(row.notebook_id, change.first_event_id),
                    notebook_id=row.notebook_id,
                    tenant_id=row.tenant_id,
                    project_id=row.project_id,
                    set_by=row.set_by,
                    state="skipping" if reason else "gathering",
                    changes=[change],
                    execution_id=UUID(int=0),
                    reason=reason,
                )
            )
        else:
            trigger.changes = changes.with_change(trigger.changes, change)
        self._aim(row.notebook_id)

    # --- what became of it --------------------------------------------------------------------

    def _started(self, recorded: RecordedEvent) -> None:
        event, trigger = decode(recorded), self._trigger(recorded)
        row = self._rows.get(recorded.subject_id)
        if row is not None:
            row.started_at = recorded.recorded_at
        if trigger is None or not isinstance(event, Trigger.Started):
            return  # the notebook is deleted
        self._go_on(trigger, event.through)
        trigger.state, trigger.reason, trigger.due_at = "starting", None, None
        trigger.notebook_version = event.notebook_stream_version
        self._aim(trigger.notebook_id)

    def _skipped(self, recorded: RecordedEvent) -> None:
        event, trigger = decode(recorded), self._trigger(recorded)
        if trigger is None or not isinstance(event, Trigger.Skipped):
            return
        self._go_on(trigger, event.through)
        self._end(trigger)
        self._aim(trigger.notebook_id)

    def _go_on(self, trigger: TriggerRow, position: int) -> None:
        """What came after ``position``, unseen by whoever decided, is another trigger."""
        rest = changes.after(trigger.changes, position)
        trigger.changes = [each for each in trigger.changes if each.position <= position]
        if rest:
            trigger_id = trigger_id_of(trigger.notebook_id, rest[0].first_event_id)
            if trigger_id == trigger.trigger_id:
                # Told as one with some that were seen, or in place of one: its own event is new.
                rest[0] = rest[0].by_itself()
                trigger_id = trigger_id_of(trigger.notebook_id, rest[0].first_event_id)
            self._keep(
                TriggerRow(
                    trigger_id=trigger_id,
                    notebook_id=trigger.notebook_id,
                    tenant_id=trigger.tenant_id,
                    project_id=trigger.project_id,
                    set_by=trigger.set_by,
                    state=trigger.state,
                    changes=rest,
                    execution_id=UUID(int=0),
                    reason=trigger.reason,
                )
            )

    def _requested(self, recorded: RecordedEvent) -> None:
        trigger = self._by_execution(recorded)
        if trigger is not None and trigger.state == "starting":
            trigger.state = "running"
            self._touched.add(trigger.notebook_id)

    def _ended(self, recorded: RecordedEvent) -> None:
        trigger = self._by_execution(recorded)
        if trigger is not None:
            self._end(trigger)
            self._aim(trigger.notebook_id)

    # --- rows ---------------------------------------------------------------------------------

    def _of(self, notebook_id: UUID) -> list[TriggerRow]:
        return list(self._triggers[notebook_id].values())

    def _trigger(self, recorded: RecordedEvent) -> TriggerRow | None:
        return self._triggers[recorded.subject_id].get(recorded.stream_id)

    def _gathering(self, notebook_id: UUID) -> TriggerRow | None:
        gathering = (each for each in self._of(notebook_id) if each.state == "gathering")
        return next(gathering, None)

    def _by_execution(self, recorded: RecordedEvent) -> TriggerRow | None:
        of_it = self._of(recorded.subject_id)
        return next((each for each in of_it if each.execution_id == recorded.stream_id), None)

    def _keep(self, trigger: TriggerRow) -> None:
        trigger.execution_id = execution_id_of(trigger.trigger_id)
        self._triggers[trigger.notebook_id][trigger.trigger_id] = trigger
        self._over.discard(trigger.trigger_id)
        self._touched.add(trigger.notebook_id)

    def _give_up(self, trigger: TriggerRow | None, reason: SkipReason) -> None:
        if trigger is not None:
            state: TriggerState = "skipping"
            trigger.state, trigger.reason, trigger.due_at = state, reason, None

    def _end(self, trigger: TriggerRow) -> None:
        del self._triggers[trigger.notebook_id][trigger.trigger_id]
        self._over.add(trigger.trigger_id)
        self._touched.add(trigger.notebook_id)

    def _aim(self, notebook_id: UUID) -> None:
        """Find out when what is gathered becomes a run: not while one goes on."""
        self._touched.add(notebook_id)
        row, trigger = self._rows.get(notebook_id), self._gathering(notebook_id)
        if trigger is None:
            return
        trigger.held, trigger.due_at = False, None
        busy = any(each.state in BUSY for each in self._of(notebook_id))
        if row is not None and not busy:
            trigger.due_at = changes.due_at(trigger.changes, row.settings, row.started_at)


def _change(recorded: RecordedEvent, dataset_version: int | None = None) -> TriggeringChange:
    """The change that an event tells of."""
    return TriggeringChange(
        kind="cells" if dataset_version is None else "dataset",
        first_event_id=recorded.event_id,
        first_at=recorded.recorded_at,
        event_id=recorded.event_id,
        position=recorded.position,
        at=recorded.recorded_at,
        dataset_id=None if dataset_version is None else recorded.stream_id,
        dataset_version=dataset_version,
        correlation_id=recorded.metadata.correlation_id,
        traceparent=recorded.metadata.traceparent,
    )


_HANDLERS: Final[dict[str, Callable[[AutomationRows, RecordedEvent], Any]]] = {
    Notebook.Created.TYPE: AutomationRows._created,  # noqa: SLF001 (its own)
    Notebook.IntegrationConfigured.TYPE: AutomationRows._configured,  # noqa: SLF001
    Notebook.DeletionRequested.TYPE: AutomationRows._deletion_requested,  # noqa: SLF001
    Notebook.Deleted.TYPE: AutomationRows._deleted,  # noqa: SLF001
    Notebook.CellsUpdated.TYPE: AutomationRows._cells_updated,  # noqa: SLF001
    Dataset.VersionAdded.TYPE: AutomationRows._version_added,  # noqa: SLF001
    Dataset.Deleted.TYPE: AutomationRows._dataset_deleted,  # noqa: SLF001
    Trigger.Started.TYPE: AutomationRows._started,  # noqa: SLF001
    Trigger.Skipped.TYPE: AutomationRows._skipped,  # noqa: SLF001
    Execution.Requested.TYPE: AutomationRows._requested,  # noqa: SLF001
}
