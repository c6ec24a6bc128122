"""Stored files as answers: whole or a range, or that the client has them already."""

import re
from typing import Any

from litestar import Request

from nbledger_http.description.documentation import IF_MATCH_READ, IF_NONE_MATCH, Answer, Header
from nbledger_http.replies.file_names import content_disposition, safe_file_name
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, empty_reply, header_list
from nbledger_http.representations.conditional import none_match, require_match
from nbledger_http.representations.streaming import LiveReply
from nbledger_http.requests.concurrency import is_head
from nbledger_infrastructure.artifacts.store import ArtifactStore, Stored

SANDBOX = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "media-src data:; base-uri 'none'; form-action 'none'"
)
"""What came out of a notebook may look as it likes, but neither run nor fetch anything."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*\Z")
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*\Z", re.ASCII | re.IGNORECASE)

RANGE_HEADERS = (
    Header(
        name="Range",
        description="bytes=from-to: only this part. Of several ranges the whole file is sent.",
    ),
    Header(
        name="If-Range",
        description="An entity tag: the range counts only if it still holds.",
    ),
    IF_MATCH_READ,
    IF_NONE_MATCH,
)
_HEADERS = {
    "ETag": "The SHA-256 of the whole file.",
    "Content-Disposition": "Names the file.",
    "Accept-Ranges": "bytes",
}
ANSWERS = {
    200: Answer(description="The file.", media_types=("*/*",), headers=_HEADERS),
    206: Answer(
        description="The part of the file that was asked for.",
        media_types=("*/*",),
        headers={**_HEADERS, "Content-Range": "Which part, and the size of the whole."},
    ),
    304: Answer(description="The client has the file already.", media_types=(), headers=_HEADERS),
}
"""What :func:`file_reply` answers, for a description."""


def file_reply(
    request: Request[Any, Any, Any],
    artifacts: ArtifactStore,
    stored: Stored,
    *,
    content_type: str,
    file_name: str,
    inline: bool = False,
    exact: bool = False,
) -> Reply:
    """The file, or the range of it that is asked for; 304 where the client has it.

    ``content_type`` and ``file_name`` may be what a notebook says they are. The content is for
    no page of ours: it is to be saved, or shown ``inline`` in a sandbox. A name that was checked
    can be kept ``exact``. Raises
    :class:`Problem` (416) for a range outside of the file, and
    :class:`PreconditionFailedError`.
    """
    etag = f'"{stored.digest}"'
    headers = {
        "Content-Type": _content_type(content_type),
        "Content-Disposition": content_disposition(
            file_name if exact else safe_file_name(file_name), inline=inline
        ),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": SANDBOX,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "ETag": etag,
    }
    require_match(request, etag, what="file")
    if "if-none-match" in request.headers and none_match(request, etag):
        return empty_reply(304, headers)
    found = _range(request, stored.size, etag)
    start, stop = found or (0, stored.size)
    if found is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    headers["Content-Length"] = str(stop - start)
    return LiveReply(
        200 if found is None else 206,
        header_list(headers),
        artifacts.pieces(stored, start, stop),
    )


def _range(request: Request[Any, Any, Any], size: int, etag: str) -> tuple[int, int] | None:
    """First and last byte (the last one excluded); ``None`` for the whole file."""
    # HEAD knows no ranges (RFC 9110, section 14.2), and who has another version wants all.
    if is_head(request.scope) or request.headers.get("if-range", etag).strip() != etag:
        return None
    asked = _RANGE.match(request.headers.get("range", "").strip())
    if asked is None or not (asked[1] or asked[2]):
        return None
    if not asked[1]:
        start, stop = max(size - int(asked[2]), 0), size
    else:
        start, stop = int(asked[1]), size
        if asked[2]:
            if int(asked[2]) < start:
                return None
            stop = min(int(asked[2]) + 1, size)
    if start >= stop:
        raise Problem(
            Code.RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop


def _content_type(told: str) -> str:
    """What a kernel said it is, if that is a media type at all."""
    told = told.partition(";")[0].strip()
    if _MEDIA_TYPE.match(told) is None:
        return "application/octet-stream"
    return f"{told}; charset=utf-8" if told.startswith("text/") else told
