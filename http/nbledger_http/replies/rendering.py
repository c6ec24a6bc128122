"""Problems as clients get them: RFC 9457 bodies."""

from typing import Any, cast

import msgspec
from litestar import Request, Response
from msgspec import UNSET, UnsetType

from nbledger_domain.errors import Fault
from nbledger_http.replies.problems import KINDS, MEDIA_TYPE, Code, Problem, from_exception
from nbledger_http.replies.responses import Reply, json_reply


class ProblemBody(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """An error as a client gets it (RFC 9457). ``error`` repeats the detail as plain text.

    ``offered`` goes with ``kernel_unavailable``: the kernel types that can be run now. ``row``,
    ``column`` and ``reason`` go with ``invalid_csv``; the header is row 1. ``reason`` goes with
    ``invalid_wheel``, too. ``dateModified`` goes with ``stale_version``: when the notebook was
    changed last. ``limit`` goes with ``queue_full``: maxWaitingPerTenant or maxWaitingPerProject.
    ``count`` goes with ``count_mismatch``: how many executions the filter finds. ``erasedAt`` and
    ``erasedBy`` go with ``erased``: when it was, and who asked for the deletion,
    or null where no event deletes it.
    """

    type: str
    title: str
    status: int
    detail: str
    code: Code
    request_id: str
    error: str
    errors: list[Fault] = []
    offered: list[str] | UnsetType = UNSET
    limit: str | UnsetType = UNSET
    count: int | UnsetType = UNSET
    row: int | UnsetType | None = UNSET
    column: str | UnsetType | None = UNSET
    reason: str | UnsetType = UNSET
    date_modified: str | UnsetType = UNSET
    erased_at: str | UnsetType = UNSET
    erased_by: str | UnsetType | None = UNSET


def render(problem: Problem, request_id: str) -> Reply:
    """The answer that tells ``problem``."""
    kind = KINDS[problem.code]
    place = problem.place
    body = ProblemBody(
        type=f"/problems/{problem.code}",
        title=kind.title,
        status=kind.status,
        detail=problem.detail,
        code=problem.code,
        request_id=request_id,
        error=problem.detail,
        errors=problem.faults,
        offered=problem.offered,
        limit=problem.limit,
        count=problem.count,
        row=UNSET if place is None else place.row,
        column=UNSET if place is None else place.column,
        reason=UNSET if place is None else place.reason,
        date_modified=problem.date_modified,
        erased_at=problem.erased_at,
        erased_by=problem.erased_by,
    )
    headers = problem.headers
    if problem.code is Code.UNAUTHENTICATED:
        headers = {"WWW-Authenticate": 'Bearer realm="nbledger"', **headers}
    return json_reply(
        msgspec.json.encode(body), status=kind.status, headers=headers, media_type=MEDIA_TYPE
    )


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    request_id = cast("str", cast("dict[str, Any]", request.scope).get("request_id", ""))
    reply = render(from_exception(error), request_id)
    headers = {name.decode(): value.decode("latin-1") for name, value in reply.headers}
    return Response(reply.body, status_code=reply.status, headers=headers, media_type=MEDIA_TYPE)
