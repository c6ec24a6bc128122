"""Fetching files by signed links."""

from typing import Any

from litestar import Request, get

from nbledger_http.description.documentation import Operation, Parameter
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply
from nbledger_http.representations.stored_files import ANSWERS, RANGE_PARAMETERS, file_reply
from nbledger_http.requests.queries import Query
from nbledger_http.requests.services import services_of

TAG = "Results"
PARAMETERS = ("contentType", "expires", "signature")


@get(
    "/downloads/{tenant_id:str}/{project_id:str}/{notebook_id:str}/{digest:str}/{file_name:str}",
    operation=Operation(
        id="downloadFile",
        tag=TAG,
        summary="Download a file by its link",
        description="Links come with results. They need no token, and work until they expire. "
        "What a notebook has made is shown by browsers in a sandbox only: no script runs in it, "
        "and nothing is loaded.",
        parameters=(
            *(
                Parameter(
                    name=name,
                    description="As in the link.",
                    schema={"type": "string"},
                    required=True,
                )
                for name in PARAMETERS
            ),
            Parameter(
                name="inline",
                description="1 to have it shown rather than saved; may be added to any link.",
                schema={"type": "boolean", "default": False},
            ),
            *RANGE_PARAMETERS,
        ),
        answers=ANSWERS,
        problems=(
            Code.LINK_INVALID,
            Code.ARTIFACT_NOT_FOUND,
            Code.RANGE_NOT_SATISFIABLE,
            Code.VALIDATION_FAILED,
            Code.UNAVAILABLE,
        ),
        secured=False,
    ),
)
async def download_file(request: Request[Any, Any, Any]) -> Reply:
    """The file, or a part of it."""
    services = services_of(request)
    query = Query(request)
    given = {name: query.text(name) or "" for name in PARAMETERS}
    link = services.links.check(request.path_params, given)
    if link is None:
        raise Problem(Code.LINK_INVALID, "The link is incomplete, altered or expired.")
    inline = query.flag("inline") or False
    query.check()
    return file_reply(
        request,
        services.artifacts,
        await services.artifacts.find(link.scope, link.digest),
        content_type=link.content_type,
        file_name=link.file_name,
        inline=inline,
    )


HANDLERS: list[Any] = [download_file]
