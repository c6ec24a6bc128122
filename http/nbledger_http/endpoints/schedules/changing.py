"""Schedules: pause and resume them, ask for a run, make up for what was due."""

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

import msgspec
from litestar import Request, post

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.change_schedule import (
    AskedFiring,
    backfill_schedule,
    pause_schedule,
    resume_schedule,
    run_schedule,
)
from nbledger_application.commands.loading import load_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_domain.schedule import Schedule, schedule_id_of
from nbledger_http.description import schedule_examples
from nbledger_http.description.documentation import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    POSITION,
    REPLAYED,
    Answer,
    Body,
    Operation,
)
from nbledger_http.endpoints.schedules.reading import TAG, in_full
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.idempotency import New, once
from nbledger_http.representations.schedules import AskedFirings, ScheduleDocument
from nbledger_http.requests.json_bodies import json_object, no_members
from nbledger_http.requests.schedules.commands import ScheduleBackfill, ScheduleNote
from nbledger_http.requests.schedules.commands import backfill as backfill_of
from nbledger_http.requests.schedules.commands import note as note_of
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of, notebook_id_of
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import Loaded, load
from nbledger_infrastructure.postgres.event_store import EventStore

_PROBLEMS = (
    Code.NOTEBOOK_NOT_FOUND,
    Code.SCHEDULE_NOT_FOUND,
    Code.CONFLICT,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.VALIDATION_FAILED,
)
_RUN = "runSchedule"
_NOTE = Body(schema=ScheduleNote, required=False, example=schedule_examples.NOTE)


@post(
    "/notebook/{notebook_id:str}/schedule/pause",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="pauseSchedule",
        tag=TAG,
        summary="Pause a schedule",
        description="It fires no more until it is resumed, whatever is changed in it meanwhile; "
        "what waits in line of it is skipped, and what runs goes on. Pausing again changes "
        "nothing.",
        body=_NOTE,
        answers={
            200: Answer(
                description="The schedule.",
                schema=ScheduleDocument,
                opens="notebookId",
                example=schedule_examples.PAUSED,
                headers=POSITION,
            )
        },
        problems=_PROBLEMS,
    ),
)
async def pause(request: Request[Any, Any, Any]) -> Reply:
    """The paused schedule."""
    return await _noted(request, pause_schedule)


@post(
    "/notebook/{notebook_id:str}/schedule/resume",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="resumeSchedule",
        tag=TAG,
        summary="Resume a schedule",
        description="It fires again from now on. What was due while it was paused is skipped, "
        "which one event tells; a backfill makes up for it.",
        body=_NOTE,
        answers={
            200: Answer(
                description="The schedule.",
                schema=ScheduleDocument,
                opens="notebookId",
                example=schedule_examples.SCHEDULE,
                headers=POSITION,
            )
        },
        problems=_PROBLEMS,
    ),
)
async def resume(request: Request[Any, Any, Any]) -> Reply:
    """The resumed schedule."""
    return await _noted(request, resume_schedule)


@post(
    "/notebook/{notebook_id:str}/schedule/run",
    status_code=202,
    right=Right.WRITE,
    operation=Operation(
        id=_RUN,
        tag=TAG,
        summary="Run a schedule now",
        description="With its parameters, whether it is paused or not. Its overlap policy holds: "
        "where an earlier run of it goes on, this one may be skipped, or wait. What becomes of it "
        "is among the firings of the schedule (`GET …/schedule`); only if it starts, the execution "
        "with the id in the answer exists.",
        answers={
            202: Answer(
                description="The firing.",
                schema=AskedFiring,
                opens="executionId",
                example=schedule_examples.ASKED,
                headers={**POSITION, **REPLAYED},
            )
        },
        headers=(IDEMPOTENCY_KEY,),
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.SCHEDULE_NOT_FOUND,
            Code.CONFLICT,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def run(request: Request[Any, Any, Any]) -> Reply:
    """The firing that was asked for."""
    await no_members(request)
    store, access, notebook_id = (
        services_of(request).store,
        access_of(request),
        notebook_id_of(request),
    )

    async def make(key: RequestKey | None) -> New:
        asked = await run_schedule(store, access, notebook_id, key=key)
        return New(schedule_id_of(notebook_id), msgspec.to_builtins(asked))

    async def tell(schedule_id: UUID, asked: Mapping[str, Any]) -> Reply:
        await load_notebook(store, access, notebook_id)
        schedule = await load(store, Schedule, schedule_id)
        headers = {} if schedule is None else _position(schedule)
        return json_reply(msgspec.json.encode(asked), status=202, headers=headers)

    return await once(request, _RUN, lambda: [notebook_id], make, tell, look_first=False)


@post(
    "/notebook/{notebook_id:str}/schedule/backfill",
    status_code=202,
    right=Right.WRITE,
    operation=Operation(
        id="backfillSchedule",
        tag=TAG,
        summary="Make up for what was due",
        description="Everything that the schedule, as it is now, was due from `from` to `to`, both "
        "included and over; at most 1,000 firings. A time whose firing has run does not run again, "
        "however often it is asked for; one that was skipped or missed does. They run one after "
        "the other, or all at once where the schedule's overlap is allow.",
        body=Body(schema=ScheduleBackfill, example=schedule_examples.BACKFILL),
        answers={
            202: Answer(
                description="The firings, with those that have run already.",
                schema=AskedFirings,
                opens="firings/0/executionId",
                example=schedule_examples.BACKFILLED,
                headers=POSITION,
            )
        },
        problems=_PROBLEMS,
    ),
)
async def backfill(request: Request[Any, Any, Any]) -> Reply:
    """The firings that were asked for."""
    asked = backfill_of(await json_object(request), clock.now())
    changed, firings = await backfill_schedule(
        services_of(request).store,
        access_of(request),
        notebook_id_of(request),
        since=asked.since,
        through=asked.through,
    )
    body = msgspec.json.encode(AskedFirings(firings=firings))
    return json_reply(body, status=202, headers=_position(changed))


def _position(changed: Loaded[Schedule]) -> dict[str, str]:
    return {"Nbledger-Position": str(changed.position)}


class _Change(Protocol):
    """What pauses or resumes a schedule."""

    async def __call__(
        self, store: EventStore, caller: Caller, notebook_id: UUID, *, note: str | None
    ) -> Loaded[Schedule]: ...


async def _noted(request: Request[Any, Any, Any], change: _Change) -> Reply:
    """The schedule as it is after a change, for which there may be a note."""
    note = note_of(await json_object(request, optional=True))
    store = services_of(request).store
    changed = await change(store, access_of(request), notebook_id_of(request), note=note)
    body = await in_full(services_of(request), request, changed.aggregate, 10)
    return json_reply(body, headers=_position(changed))


HANDLERS: list[Any] = [pause, resume, run, backfill]
