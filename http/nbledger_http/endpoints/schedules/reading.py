"""Schedules: list and read them."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_application.commands.change_schedule import read_schedule
from nbledger_application.commands.loading import load_notebook
from nbledger_application.notices import failing_schedules
from nbledger_domain.schedule import Schedule
from nbledger_http.description import schedule_examples
from nbledger_http.description.documentation import (
    PREFERENCE_APPLIED,
    Answer,
    Operation,
)
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    READ_OWN_WRITES,
    page_reply,
)
from nbledger_http.representations.schedules import (
    ScheduleDocument,
    ScheduleList,
    full,
    listed,
    runs_of,
)
from nbledger_http.requests import queries
from nbledger_http.requests.queries import Paging
from nbledger_http.requests.schedules.advice import schedule_advice
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, notebook_id_of
from nbledger_projections.machinery.documents import Page
from nbledger_projections.read_models import schedules

TAG = "Schedules"


class FiringsQuery(msgspec.Struct):
    """How much is told of a schedule."""

    firings: Annotated[
        int, Meta(ge=0, le=1000, description="How many of the last firings are told.")
    ] = 10


@get(
    "/schedules",
    right=Right.READ,
    operation=Operation(
        id="listSchedules",
        tag=TAG,
        summary="List the schedules of all notebooks",
        description=LIST_NOTES,
        query=Paging,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The schedules.",
                schema=ScheduleList,
                example=schedule_examples.SCHEDULE_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_schedules(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's schedules."""
    pool, access = services_of(request).pool, access_of(request)

    async def read(page: int, size: int) -> Page:
        found = await schedules.page(
            pool, access.tenant_id, access.project_id, page=page, page_size=size
        )
        settings = {each.schedule_id: each.settings for each in found.schedules}
        runs = await runs_of(services_of(request).store, settings)
        return Page(
            [listed(each, runs.get(each.schedule_id, 0)) for each in found.schedules],
            found.total_count,
            found.position,
        )

    asked = queries.read(request, Paging)
    return await page_reply(request, asked, "schedules", schedules.NAME, read)


@get(
    "/notebook/{notebook_id:str}/schedule",
    right=Right.READ,
    operation=Operation(
        id="getSchedule",
        tag=TAG,
        summary="Get a notebook's schedule",
        description="As of now, with its last firings and what became of each. These follow "
        "within moments; to have a change in them, send back the Nbledger-Position that it was "
        "answered with, and how long you would wait. `failing` follows within moments, too.",
        query=FiringsQuery,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The schedule.",
                schema=ScheduleDocument,
                example=schedule_examples.SCHEDULE,
                headers=PREFERENCE_APPLIED,
            )
        },
        problems=(Code.NOTEBOOK_NOT_FOUND, Code.SCHEDULE_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def get_schedule(request: Request[Any, Any, Any]) -> Reply:
    """The schedule, and its last firings."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query, report = queries.read(request, FiringsQuery)
    awaited = queries.awaited_position(request, report)
    report.check()
    if awaited is not None:
        await services.positions.reached(schedules.NAME, awaited.position, awaited.seconds or 0)
    schedule = await read_schedule(services.store, access, notebook_id)
    body = await in_full(services, request, schedule, query.firings)
    return json_reply(
        body, headers=queries.wait_applied(None if awaited is None else awaited.seconds)
    )


async def in_full(
    services: Services, request: Request[Any, Any, Any], schedule: Schedule, count: int
) -> bytes:
    """The schedule with its last firings."""
    access = access_of(request)
    notebook_id: UUID = schedule.notebook_id
    found = await schedules.firings(
        services.pool, access.tenant_id, access.project_id, notebook_id, limit=count
    )
    runs = await runs_of(services.store, {schedule.id: schedule.settings})
    notebook = (await load_notebook(services.store, access, notebook_id)).aggregate
    names = await services.names.of(access.tenant_id, [schedule.set_by])
    return full(
        schedule,
        found,
        set_by=names[schedule.set_by],
        runs=runs.get(schedule.id, 0),
        warnings=schedule_advice(schedule.settings, notebook.cells, notebook.kernel_type),
        series=await failing_schedules.series(services.pool, schedule.id),
    )


HANDLERS: list[Any] = [list_schedules, get_schedule]
