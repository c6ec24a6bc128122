"""Answers made of read models with one document for each stream."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Request

from nbledger_http.description.documentation import PREFER, PREFERENCE_APPLIED, READ_POSITION
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.conditional import last_modified
from nbledger_http.requests.declared import FaultReport
from nbledger_http.requests.queries import Paging, awaited_position, wait_applied
from nbledger_http.requests.services import services_of
from nbledger_projections.machinery.documents import Page, View

LIST_NOTES = (
    "The list follows changes within moments. To read your own change in it, send back the "
    "Nbledger-Position that the change was answered with, and how long you would wait."
)
READ_OWN_WRITES = (READ_POSITION, PREFER)
LIST_HEADERS = {
    "Nbledger-Position": "Up to where in the store the list knows.",
    **PREFERENCE_APPLIED,
}


def etag(view: View) -> str:
    """The entity tag of this state."""
    return f'"v{view.version}"'


def state_headers(view: View) -> dict[str, str]:
    """What the answer to a change says of the state that it has led to."""
    return {
        "ETag": etag(view),
        "Last-Modified": last_modified(view.modified_at),
        "Nbledger-Position": str(view.position),
    }


async def page_reply(
    request: Request[Any, Any, Any],
    asked: tuple[Paging, FaultReport],
    member: str,
    projection: str,
    read: Callable[[int, int], Awaitable[Page]],
) -> Reply:
    """The page that is asked for, its items in ``member``.

    ``read`` gets its number and size, once ``projection`` has reached the position that the
    request names. Raises :class:`InvalidInputError` with every fault of what is asked for.
    """
    query, report = asked
    number, size = query.page, query.page_size
    awaited = awaited_position(request, report)
    report.check()
    if awaited is not None:
        await services_of(request).positions.reached(
            projection, awaited.position, awaited.seconds or 0
        )
    found = await read(number, size)
    body = b'{"%b":[%b],"totalCount":%d,"page":%d,"pageSize":%d,"hasNextPage":%b}' % (
        member.encode(),
        b",".join(found.items),
        found.total_count,
        number,
        size,
        b"true" if number * size < found.total_count else b"false",
    )
    applied = wait_applied(None if awaited is None else awaited.seconds)
    return json_reply(body, headers={"Nbledger-Position": str(found.position), **applied})
