"""The executions of a project, by a filter."""

from typing import Any

import msgspec
from litestar import Request, get

from nbledger_application.caller import Right
from nbledger_http.description import execution_action_examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.executions import TAG
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.documents import LIST_HEADERS, LIST_NOTES, READ_OWN_WRITES
from nbledger_http.representations.filters import by_ids
from nbledger_http.representations.principals import with_names
from nbledger_http.requests import queries
from nbledger_http.requests.many.filters import (
    ExecutionsQuery,
    cursor_of,
    cursor_text,
    wanted_by,
)
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of
from nbledger_projections.read_models.executions import listing


class ProjectExecutions(msgspec.Struct, rename="camel", kw_only=True):
    """A part of the project's executions, without what each cell did.

    `next` is the `cursor` of the page after it, and null where there is none.
    """

    executions: list[dict[str, Any]]
    next: str | None


@get(
    "/executions",
    right=Right.READ,
    operation=Operation(
        id="listProjectExecutions",
        tag=TAG,
        summary="List the executions of a project",
        description="Of all its notebooks, those that `filter` lets through. Follow `next` until "
        "it is null: for a page a bounded number of executions is looked at, so one may have fewer "
        "than `pageSize`, even none, and others come after it. Executions that are "
        f"requested meanwhile move no page. {LIST_NOTES}",
        query=ExecutionsQuery,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The executions.",
                schema=ProjectExecutions,
                example=execution_action_examples.EXECUTIONS,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_project_executions(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's executions."""
    services, access = services_of(request), access_of(request)
    query, report = queries.read(request, ExecutionsQuery)
    wanted = wanted_by(query.filter, "?filter", report)
    after = cursor_of(query.cursor, report)
    awaited = queries.awaited_position(request, report)
    report.check()
    if awaited is not None:
        await services.positions.reached(listing.NAME, awaited.position, awaited.seconds or 0)
    wanted = await by_ids(services.names, access.tenant_id, wanted)
    found = await listing.page(
        *(services.pool, access.tenant_id, access.project_id, wanted),
        order=query.sort,
        after=after,
        size=query.page_size,
    )
    following = msgspec.json.encode(cursor_text(found.following))
    items = await with_names(services.names, access.tenant_id, found.items, "requestedBy")
    body = b'{"executions":[%b],"next":%b}' % (b",".join(items), following)
    applied = queries.wait_applied(None if awaited is None else awaited.seconds)
    return json_reply(body, headers={"Nbledger-Position": str(found.position), **applied})


HANDLERS: list[Any] = [list_project_executions]
