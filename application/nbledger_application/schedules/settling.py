"""Bringing a schedule in line with what its notebook says."""

from uuid import UUID

import structlog

from nbledger_application import repository
from nbledger_domain.notebook import Notebook
from nbledger_domain.schedule import CronError, Schedule, ScheduleSettings, schedule_id_of
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream

log = structlog.get_logger(__name__)


def settings_of(notebook: Notebook) -> ScheduleSettings | None:
    """The schedule that the notebook asks for; ``None`` where there is none that can be read."""
    value = notebook.integration.schedule_execution
    if value is None or notebook.deleted or notebook.deletion_requested:
        return None
    try:
        return ScheduleSettings.of(value)
    except CronError as error:
        # Earlier versions kept any five fields.
        log.warning("schedule not usable", notebook_id=str(notebook.id), reason=str(error))
        return None


async def settle(
    store: EventStore, notebook_id: UUID, metadata: Metadata
) -> Loaded[Schedule] | None:
    """Set, change or remove the schedule as the notebook is now; to do so again changes nothing.

    Returns the schedule as saved, ``None`` where the notebook never had one. Raises
    ``RecordConflictError`` after ten lost races.
    """

    async def once() -> Loaded[Schedule] | None:
        notebook = await aggregates.load(store, Notebook, notebook_id)
        if notebook is None:
            return None
        wanted = settings_of(notebook.aggregate)
        schedule_id = schedule_id_of(notebook_id)
        loaded = await aggregates.load(store, Schedule, schedule_id)
        if loaded is None:
            if wanted is None:
                return None
            of = notebook.stream
            loaded = Loaded(
                Schedule.create(
                    schedule_id,
                    notebook_id=notebook_id,
                    settings=wanted,
                    set_by=metadata.responsible,
                    at=clock.now(),
                ),
                Stream(schedule_id, notebook_id, of.tenant_id, of.project_id),
                0,
            )
        elif wanted is None:
            loaded.aggregate.remove(at=clock.now())
        else:
            loaded.aggregate.change(wanted, set_by=metadata.responsible, at=clock.now())
        appended = await repository.save(store, loaded.aggregate, loaded.stream, metadata)
        if appended is not None:
            loaded.position = appended.position
        return loaded

    return await repository.until_saved(once)
