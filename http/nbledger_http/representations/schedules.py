"""Schedules as the API shows them: in a notebook, in the list, and in full."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_application.commands.change_schedule import AskedFiring
from nbledger_domain.schedule import (
    CronError,
    Overlap,
    Schedule,
    ScheduleSettings,
    ScheduleState,
    schedule_id_of,
)
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.responses import with_members
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.notebooks.documents import NotebookDocument
from nbledger_projections.read_models.schedules import FiringDocument, ListedSchedule

NEXT_FIRINGS = 5

_Shown = Literal["active", "paused", "ended", "invalid"]


class ScheduleSummary(msgspec.Struct, rename="camel", kw_only=True):
    """A schedule in words, and when it fires next.

    `state` is active, paused (it fires no more until it is resumed), ended (it is never due again)
    or invalid: `description` then says what is wrong with it.
    """

    cron: str
    time_zone: str
    description: str
    next_firings: list[str]
    state: _Shown


class ScheduledNotebook(NotebookDocument, rename="camel", kw_only=True):
    """A notebook, with its schedule where it has one."""

    schedule: ScheduleSummary | UnsetType = UNSET


class ScheduleItem(ScheduleSummary, rename="camel", kw_only=True):
    """A schedule in the list of its project."""

    schedule_id: UUID
    notebook_id: UUID


class ScheduleDocument(ScheduleItem, rename="camel", kw_only=True):
    """A schedule in full; `firings` are the last ones with what became of them, newest first.

    `pauseReason` is requested, or failures: too many runs failed one after the other.
    """

    pause_reason: str | UnsetType = UNSET
    note: str | UnsetType = UNSET
    set_by: str
    start: str | UnsetType = UNSET
    end: str | UnsetType = UNSET
    max_runs: int | UnsetType = UNSET
    parameters: dict[str, Any]
    overlap: Overlap
    catch_up_seconds: int
    jitter_seconds: int
    pause_after_failures: int | UnsetType = UNSET
    firings: list[FiringDocument]


class ScheduleList(PageBody, rename="camel", kw_only=True):
    """A page of the project's schedules, newest first."""

    schedules: list[ScheduleItem]


class AskedFirings(msgspec.Struct, rename="camel", kw_only=True):
    """The firings that were asked for, in order; those that have run already do not run again."""

    firings: list[AskedFiring]


class _Integration(msgspec.Struct, rename="camel"):
    schedule_execution: str | ScheduleSettings | None = None


class _Notebook(msgspec.Struct):
    integration: _Integration


_decode = msgspec.json.Decoder(_Notebook).decode


def summary(settings: ScheduleSettings, state: str) -> ScheduleSummary:
    """What is told of a schedule wherever it is shown."""
    if faults := settings.faults():
        return _invalid(settings, faults[0].reason)
    now = clock.now()
    following = settings.upcoming(now, count=NEXT_FIRINGS) if state == ScheduleState.ACTIVE else []
    shown: _Shown = "active"
    if state == ScheduleState.PAUSED:
        shown = "paused"
    elif state == ScheduleState.ENDED or not following:
        shown = "ended"
    return ScheduleSummary(
        cron=settings.cron,
        time_zone=settings.time_zone,
        description=settings.rule.describe(),
        next_firings=[timestamp(each) for each in following],
        state=shown,
    )


def listed(schedule: ListedSchedule) -> bytes:
    """A schedule in the list of its project."""
    told = summary(schedule.settings, schedule.state)
    return msgspec.json.encode(
        ScheduleItem(
            schedule_id=schedule.schedule_id,
            notebook_id=schedule.notebook_id,
            **msgspec.structs.asdict(told),
        )
    )


def full(schedule: Schedule, firings: list[FiringDocument]) -> bytes:
    """A schedule in full."""
    settings = schedule.settings
    told = summary(settings, schedule.state)
    return msgspec.json.encode(
        ScheduleDocument(
            schedule_id=schedule.id,
            notebook_id=schedule.notebook_id,
            pause_reason=schedule.pause_reason or UNSET,
            note=schedule.note or UNSET,
            set_by=schedule.set_by,
            start=_moment(settings.start),
            end=_moment(settings.end),
            max_runs=settings.max_runs or UNSET,
            parameters=settings.parameters,
            overlap=settings.overlap,
            catch_up_seconds=settings.catch_up_seconds,
            jitter_seconds=settings.jitter_seconds,
            pause_after_failures=settings.pause_after_failures or UNSET,
            firings=firings,
            **msgspec.structs.asdict(told),
        )
    )


async def with_schedule(store: EventStore, notebook_id: UUID, document: bytes) -> bytes:
    """The notebook, with its schedule as it is now where it has one."""
    if b'"scheduleExecution":' not in document:
        return document
    value = _decode(document).integration.schedule_execution
    if value is None:
        return document
    try:
        settings = ScheduleSettings.of(value)
    except CronError as error:
        return with_members(document, schedule=_invalid(value, str(error)))
    loaded = await load(store, Schedule, schedule_id_of(notebook_id))
    state = ScheduleState.ACTIVE
    # One that the notebook has just been given is set within moments.
    if loaded is not None and loaded.aggregate.settings == settings:
        state = loaded.aggregate.state
    elif loaded is not None and loaded.aggregate.state is ScheduleState.PAUSED:
        state = ScheduleState.PAUSED
    return with_members(document, schedule=summary(settings, state))


def _invalid(value: str | ScheduleSettings, reason: str) -> ScheduleSummary:
    settings = ScheduleSettings(cron=value) if isinstance(value, str) else value
    return ScheduleSummary(
        cron=settings.cron,
        time_zone=settings.time_zone,
        description=reason,
        next_firings=[],
        state="invalid",
    )


def _moment(moment: datetime | None) -> str | UnsetType:
    return UNSET if moment is None else timestamp(moment)
