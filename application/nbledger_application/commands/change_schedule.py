"""Pause and resume a notebook's schedule, ask for a run of it, and for what was due earlier."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.loading import load_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_application.schedules.settling import settings_of, settle
from nbledger_domain.errors import Fault, InvalidInputError, ScheduleNotFoundError
from nbledger_domain.schedule import (
    Schedule,
    ScheduleState,
    execution_id_of,
    firing_id_of,
    schedule_id_of,
)
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import Loaded, load
from nbledger_infrastructure.postgres.event_store import EventStore, IdempotencyKey

MOST_BACKFILLED: Final = 1000
"""So many firings can be asked for at once."""


class AskedFiring(msgspec.Struct, frozen=True, rename="camel"):
    """A firing that was asked for, and the id that its run has if it starts."""

    firing_id: UUID
    due_at: datetime
    execution_id: UUID

    @classmethod
    def of(cls, schedule_id: UUID, due: datetime) -> "AskedFiring":
        """That of the schedule, due then."""
        firing_id = firing_id_of(schedule_id, due)
        return cls(firing_id, due, execution_id_of(firing_id))


async def read_schedule(store: EventStore, caller: Caller, notebook_id: UUID) -> Schedule:
    """The schedule as the notebook says it is now, whether that is recorded of it yet or not.

    Raises as :func:`pause_schedule` does.
    """
    notebook = (await load_notebook(store, caller, notebook_id)).aggregate
    settings = settings_of(notebook)
    if settings is None:
        raise ScheduleNotFoundError(notebook_id)
    schedule_id = schedule_id_of(notebook_id)
    loaded = await load(store, Schedule, schedule_id)
    if loaded is None:
        return Schedule.create(
            schedule_id,
            notebook_id=notebook_id,
            settings=settings,
            set_by=caller.actor,
            at=clock.now(),
        )
    loaded.aggregate.change(settings, set_by=caller.actor, at=clock.now())
    return loaded.aggregate


async def pause_schedule(
    store: EventStore, caller: Caller, notebook_id: UUID, *, note: str | None
) -> Loaded[Schedule]:
    """Let the schedule fire no more; one that is paused stays so.

    Raises :class:`NotebookNotFoundError` and :class:`ScheduleNotFoundError`.
    """
    return await _changed(
        store,
        caller,
        notebook_id,
        lambda schedule: schedule.pause("requested", note=note, at=clock.now()),
    )


async def resume_schedule(
    store: EventStore, caller: Caller, notebook_id: UUID, *, note: str | None
) -> Loaded[Schedule]:
    """Let the schedule fire again. Raises as :func:`pause_schedule` does."""
    return await _changed(
        store, caller, notebook_id, lambda schedule: schedule.resume(note=note, at=clock.now())
    )


async def run_schedule(
    store: EventStore, caller: Caller, notebook_id: UUID, *, key: RequestKey | None = None
) -> AskedFiring:
    """Ask for a run now, which the schedule's overlap policy holds for, too.

    Raises as :func:`pause_schedule` does, and :class:`KeyUsedError` where an earlier request came
    with the same ``key``.
    """
    asked = AskedFiring.of(schedule_id_of(notebook_id), clock.now())

    def change(schedule: Schedule) -> None:
        schedule.request_run(
            asked.firing_id, asked.due_at, requested_by=caller.actor, at=clock.now()
        )

    recorded = None if key is None else key.answering(msgspec.to_builtins(asked))
    await _changed(store, caller, notebook_id, change, key=recorded)
    return asked


async def backfill_schedule(
    store: EventStore, caller: Caller, notebook_id: UUID, *, since: datetime, through: datetime
) -> tuple[Loaded[Schedule], list[AskedFiring]]:
    """Ask for all that was due in a time; what has run then does not run again.

    Raises as :func:`pause_schedule` does, and :class:`InvalidInputError` where that is too much.
    """
    found: list[AskedFiring] = []

    def change(schedule: Schedule) -> None:
        schedule.must_exist()
        due = schedule.settings.upcoming(
            since - timedelta(microseconds=1), count=MOST_BACKFILLED + 1, through=through
        )
        if len(due) > MOST_BACKFILLED:
            most = f"the schedule is due more than {MOST_BACKFILLED:,} times from there to `to`"
            raise InvalidInputError([Fault("/from", most)])
        found[:] = [AskedFiring.of(schedule.id, each) for each in due]
        schedule.request_backfill(due, requested_by=caller.actor, at=clock.now())

    return await _changed(store, caller, notebook_id, change), found


async def _changed(
    store: EventStore,
    caller: Caller,
    notebook_id: UUID,
    change: Callable[[Schedule], None],
    *,
    key: IdempotencyKey | None = None,
) -> Loaded[Schedule]:
    """The schedule, after it was brought in line with the notebook and then changed."""

    async def read() -> Loaded[Schedule]:
        await load_notebook(store, caller, notebook_id)
        loaded = await settle(store, notebook_id, caller.metadata())
        if loaded is None or loaded.aggregate.state is ScheduleState.REMOVED:
            raise ScheduleNotFoundError(notebook_id)
        return loaded

    loaded, _ = await repository.update_loaded(
        store, read, change, caller.metadata(), key_of=lambda _: key
    )
    return loaded
