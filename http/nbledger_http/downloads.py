"""Fetching files by signed links."""

import re
from typing import Any

from litestar import Request, get

from nbledger_http.documentation import Answer, Operation, Parameter
from nbledger_http.file_names import safe_file_name
from nbledger_http.problems import Code, Problem
from nbledger_http.queries import Query
from nbledger_http.replies import Reply, StreamReply, header_list
from nbledger_http.services import services_of

TAG = "Results"
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*\Z")
PARAMETERS = ("contentType", "expires", "signature")


@get(
    "/downloads/{tenant_id:str}/{project_id:str}/{notebook_id:str}/{digest:str}/{file_name:str}",
    operation=Operation(
        id="downloadFile",
        tag=TAG,
        summary="Download a file by its link",
        description="Links come with results. They need no token, and work until they expire.",
        parameters=tuple(
            Parameter(
                name=name, description="As in the link.", schema={"type": "string"}, required=True
            )
            for name in PARAMETERS
        ),
        answers={
            200: Answer(
                description="The file.",
                media_types=("*/*",),
                headers={"Content-Disposition": "Names the file."},
            )
        },
        problems=(Code.LINK_INVALID, Code.ARTIFACT_NOT_FOUND, Code.UNAVAILABLE),
        secured=False,
    ),
)
async def download_file(request: Request[Any, Any, Any]) -> Reply:
    """The file."""
    services = services_of(request)
    query = Query(request)
    given = {name: query.text(name) or "" for name in PARAMETERS}
    link = services.links.check(request.path_params, given)
    if link is None:
        raise Problem(Code.LINK_INVALID, "The link is incomplete, altered or expired.")
    pieces = await services.artifacts.stream(link.scope, link.digest)
    headers = {
        "Content-Type": _content_type(link.content_type),
        "Content-Disposition": f'attachment; filename="{safe_file_name(link.file_name)}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private",
        "ETag": f'"{link.digest}"',
    }
    return StreamReply(200, header_list(headers), pieces)


def _content_type(told: str) -> str:
    """What a kernel said it is, if that is a media type at all."""
    if _MEDIA_TYPE.match(told) is None:
        return "application/octet-stream"
    return f"{told}; charset=utf-8" if told.startswith("text/") else told


HANDLERS: list[Any] = [download_file]
