"""Notices: list them."""

from typing import Annotated, Any, get_args

from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_http.description import notice_examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    READ_OWN_WRITES,
    page_reply,
)
from nbledger_http.requests import queries
from nbledger_http.requests.queries import Paging
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of
from nbledger_projections.machinery.documents import Page
from nbledger_projections.read_models import notices
from nbledger_projections.read_models.notices import NoticeDocument, NoticeKind

TAG = "Notices"

_KINDS = ", ".join(get_args(NoticeKind))


class NoticeQuery(Paging, rename="camel", kw_only=True):
    """Which notices are told."""

    kind: Annotated[NoticeKind | None, Meta(description=f"Only these: {_KINDS}.")] = None


class NoticeList(PageBody, rename="camel", kw_only=True):
    """A page of a project's notices, newest first."""

    notices: list[NoticeDocument]


@get(
    "/notices",
    right=Right.READ,
    operation=Operation(
        id="listNotices",
        tag=TAG,
        summary="List notices",
        description="What the service has told by itself: runs that take longer than usual, "
        "schedules that fail, kernel types for which runs of the project wait and no worker is "
        f"there. {LIST_NOTES}",
        query=NoticeQuery,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The notices.",
                schema=NoticeList,
                example=notice_examples.NOTICE_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_notices(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's notices."""
    pool, access = services_of(request).pool, access_of(request)
    query, report = queries.read(request, NoticeQuery)

    async def read(page: int, size: int) -> Page:
        return await notices.page(
            pool, access.tenant_id, access.project_id, query.kind, page=page, page_size=size
        )

    return await page_reply(request, (query, report), "notices", notices.NAME, read)


HANDLERS: list[Any] = [list_notices]
