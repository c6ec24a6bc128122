"""Comparing two versions of a notebook."""

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_domain.past.moments import AsOf, AtPosition
from nbledger_http.description.documentation import (
    AS_OF_PROBLEMS,
    ETAG,
    JSON,
    NOT_MODIFIED,
    READ_CONDITIONS,
    Answer,
    Operation,
)
from nbledger_http.endpoints.notebooks import comparison_example
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply
from nbledger_http.representations import past
from nbledger_http.representations.conditional import document_reply
from nbledger_http.representations.notebooks import comparison_page
from nbledger_http.representations.notebooks.comparison import (
    NotebookComparison,
    Side,
    compare,
    encode,
)
from nbledger_http.requests import queries
from nbledger_http.requests.past.moments import MAX_LENGTH, moment
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of, notebook_id_of

TAG = "History"

_FORMS = "A version of the notebook (1.2.0), a time with its zone, or the position of an event"


class ComparisonQuery(msgspec.Struct, rename="camel"):
    """What is compared with what, and how it is told."""

    from_: Annotated[str, Meta(max_length=MAX_LENGTH, description=f"{_FORMS}.")] = msgspec.field(
        name="from"
    )
    to: (
        Annotated[str, Meta(max_length=MAX_LENGTH, description=f"{_FORMS}. Without it: now.")]
        | None
    ) = None
    format: Annotated[Literal["json", "html"], Meta(description="JSON, or a page to read.")] = (
        "json"
    )


@get(
    "/notebook/{notebook_id:str}/diff",
    right=Right.AUDIT,
    operation=Operation(
        id="compareNotebookVersions",
        tag=TAG,
        summary="Compare two versions of a notebook",
        description="Cell by cell, by their ids: sources by line and within lines, metadata and "
        "attachments; and name, settings, environment, parameters, datasets and input files. "
        "Outputs are no part of a version. `diff` is in the format of nbdime.",
        query=ComparisonQuery,
        headers=READ_CONDITIONS,
        answers={
            200: Answer(
                description="The differences between the two versions.",
                schema=NotebookComparison,
                media_types=(JSON, "text/html"),
                example=comparison_example.COMPARISON,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.VERSION_NOT_FOUND,
            *AS_OF_PROBLEMS,
            Code.PRECONDITION_FAILED,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def compare_versions(request: Request[Any, Any, Any]) -> Reply:
    """Compare two versions of a notebook."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query = queries.checked(request, ComparisonQuery)
    sides: list[Side] = []
    for parameter, text in (("from", query.from_), ("to", query.to)):
        if text is None:
            wanted: AsOf = AtPosition(await services.store.head_position())
        else:
            wanted = moment(parameter, text, versions=True)
        view, at, _ = await past.notebook(
            services, access, notebook_id, wanted, parameter=parameter
        )
        sides.append(Side(view, at))
    # Comparing large texts takes a while, and is nothing that others are to wait for.
    async with services.renderings:
        compared = await asyncio.to_thread(compare, *sides)
        as_page = query.format == "html"
        body = await asyncio.to_thread(comparison_page.page if as_page else encode, compared)
    positions = [side.view.position for side in sides]
    return document_reply(
        request,
        body,
        etag=f'"d{positions[0]}.{positions[1]}.{query.format}"',
        modified_at=max(side.view.modified_at for side in sides),
        by_time=False,
        headers=comparison_page.HEADERS if as_page else None,
        media_type=comparison_page.MEDIA_TYPE if as_page else JSON,
    )


HANDLERS: list[Any] = [compare_versions]
