"""Schedules as the API shows them: in a notebook, in the list, and in full."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_application.commands.change_schedule import AskedFiring
from nbledger_application.notices.folding import FailingRow
from nbledger_application.schedules.past import counted_runs_then
from nbledger_application.schedules.rows import counted_runs
from nbledger_domain.execution import RetryPolicy
from nbledger_domain.schedule import (
    CronError,
    Overlap,
    Schedule,
    ScheduleSettings,
    ScheduleState,
    schedule_id_of,
)
from nbledger_domain.vocabulary.priorities import Priority
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.responses import with_members
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.notebooks.documents import NotebookDocument
from nbledger_projections.read_models.notices import FailingRunsDocument
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


class FailingSeries(FailingRunsDocument, rename="camel", kw_only=True):
    """So many runs of the schedule have failed in a row; `told` says that a notice tells so."""

    told: bool


class ScheduleDocument(ScheduleItem, rename="camel", kw_only=True):
    """A schedule in full; `firings` are the last ones with what became of them, newest first.

    `pauseReason` is requested, or failures: too many runs failed one after the other. `timeout`,
    `cellTimeout` (seconds), `priority`, `retryPolicy` and `tags` are those of its runs; without
    `timeout` they have the default.
    `warnings` say which of the parameters the notebook, as it is now, does not take.
    `failing` is there where the last run has failed.
    """

    pause_reason: str | UnsetType = UNSET
    note: str | UnsetType = UNSET
    set_by: str
    start: str | UnsetType = UNSET
    end: str | UnsetType = UNSET
    max_runs: int | UnsetType = UNSET
    parameters: dict[str, Any]
    timeout: int | float | UnsetType = UNSET
    cell_timeout: int | float | UnsetType = UNSET
    priority: Priority
    retry_policy: RetryPolicy | UnsetType = UNSET
    tags: list[str]
    overlap: Overlap
    catch_up_seconds: int
    jitter_seconds: int
    pause_after_failures: int | UnsetType = UNSET
    firings: list[FiringDocument]
    warnings: list[str]
    failing: FailingSeries | UnsetType = UNSET


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


def summary(
    settings: ScheduleSettings, state: str, runs: int = 0, *, at: datetime | None = None
) -> ScheduleSummary:
    """What is told of a schedule wherever it is shown; ``runs`` of its firings count as run.

    It is told as of now, or as of the time ``at``.
    """
    if faults := settings.faults():
        return _invalid(settings, faults[0].reason)
    now = at or clock.now()
    count = 0
    if state == ScheduleState.ACTIVE:
        left = NEXT_FIRINGS if settings.max_runs is None else settings.max_runs - runs
        count = max(min(left, NEXT_FIRINGS), 0)
    following = settings.upcoming(now, count=count)
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


async def runs_of(store: EventStore, schedules: Mapping[UUID, ScheduleSettings]) -> dict[UUID, int]:
    """How many firings of each schedule count as run, of those where that matters."""
    bounded = {key: each for key, each in schedules.items() if each.max_runs is not None}
    if not bounded:
        return {}
    async with store.reading() as connection:
        return await counted_runs(connection, bounded)


def listed(schedule: ListedSchedule, runs: int) -> bytes:
    """A schedule in the list of its project."""
    told = summary(schedule.settings, schedule.state, runs)
    return msgspec.json.encode(
        ScheduleItem(
            schedule_id=schedule.schedule_id,
            notebook_id=schedule.notebook_id,
            **msgspec.structs.asdict(told),
        )
    )


def full(
    schedule: Schedule,
    firings: list[FiringDocument],
    *,
    set_by: str,
    runs: int,
    warnings: list[str],
    series: FailingRow | None,
) -> bytes:
    """A schedule in full; ``set_by`` is the name of who has set it."""
    settings = schedule.settings
    told = summary(settings, schedule.state, runs)
    return msgspec.json.encode(
        ScheduleDocument(
            schedule_id=schedule.id,
            notebook_id=schedule.notebook_id,
            pause_reason=schedule.pause_reason or UNSET,
            note=schedule.note or UNSET,
            set_by=set_by,
            start=_moment(settings.start),
            end=_moment(settings.end),
            max_runs=settings.max_runs or UNSET,
            parameters=settings.parameters,
            timeout=_seconds(settings.timeout),
            cell_timeout=_seconds(settings.cell_timeout),
            priority=settings.priority,
            retry_policy=settings.retry_policy or UNSET,
            tags=list(settings.tags),
            overlap=settings.overlap,
            catch_up_seconds=settings.catch_up_seconds,
            jitter_seconds=settings.jitter_seconds,
            pause_after_failures=settings.pause_after_failures or UNSET,
            firings=firings,
            warnings=warnings,
            failing=UNSET if series is None else _failing(series),
            **msgspec.structs.asdict(told),
        )
    )


def _seconds(value: float | None) -> int | float | UnsetType:
    if value is None:
        return UNSET
    return int(value) if value % 1 == 0 else value


def _failing(series: FailingRow) -> FailingSeries:
    return FailingSeries(
        failures=series.failures,
        since=timestamp(series.since),
        first_execution_id=series.first_execution_id,
        last_execution_id=series.last_execution_id,
        termination_code=series.termination_code,
        told=series.told,
    )


async def with_schedule(
    store: EventStore,
    notebook_id: UUID,
    document: bytes,
    moment: Moment | None = None,
    runs_then: int = 0,
) -> bytes:
    """The notebook, with its schedule where it has one: as it is now, or as it was.

    Of what it was ``runs_then`` is what :func:`runs_at` has told.
    """
    value = _schedule_in(document)
    if value is None:
        return document
    try:
        settings = ScheduleSettings.of(value)
    except CronError as error:
        return with_members(document, schedule=_invalid(value, str(error)))
    up_to = None if moment is None else moment.position
    loaded = await load(store, Schedule, schedule_id_of(notebook_id), up_to_position=up_to)
    state = ScheduleState.ACTIVE
    # One that the notebook has just been given is set within moments.
    if loaded is not None and loaded.aggregate.settings == settings:
        state = loaded.aggregate.state
    elif loaded is not None and loaded.aggregate.state is ScheduleState.PAUSED:
        state = ScheduleState.PAUSED
    if moment is None:
        schedule_id = schedule_id_of(notebook_id)
        runs = (await runs_of(store, {schedule_id: settings})).get(schedule_id, 0)
        return with_members(document, schedule=summary(settings, state, runs))
    return with_members(document, schedule=summary(settings, state, runs_then, at=moment.at))


async def runs_at(
    connection: PooledConnection, notebook_id: UUID, document: bytes, moment: Moment
) -> int:
    """How many firings of the notebook's schedule counted as run then, where that matters."""
    value = _schedule_in(document)
    try:
        settings = None if value is None else ScheduleSettings.of(value)
    except CronError:
        return 0
    if settings is None or settings.max_runs is None:
        return 0
    return await counted_runs_then(connection, notebook_id, settings, moment.position)


def _schedule_in(document: bytes) -> str | ScheduleSettings | None:
    if b'"scheduleExecution":' not in document:
        return None
    return _decode(document).integration.schedule_execution


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
