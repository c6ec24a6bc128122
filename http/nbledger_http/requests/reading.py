"""Reading request bodies."""

from typing import Any

from litestar import Request
from litestar.exceptions import HTTPException

from nbledger_http.replies.problems import Code, Problem
from nbledger_http.requests.validation import decode_object


async def json_object(
    request: Request[Any, Any, Any], *, optional: bool = False, unique: bool = False
) -> dict[str, Any]:
    """The JSON object that ``request`` carries; ``{}`` for no body where that is allowed.

    Its members may have to be ``unique``, so that none is passed over.
    Raises :class:`InvalidInputError`, and :class:`Problem` (413, 415).
    """
    body = await raw_body(request)
    if optional and not body.strip():
        return {}
    kind, _, parameters = request.headers.get("content-type", "application/json").partition(";")
    kind = kind.strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send application/json.")
    _, _, charset = parameters.lower().partition("charset=")
    if charset and charset.strip(" \"'") not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "JSON is written in UTF-8.")
    return decode_object(body, unique=unique)


async def raw_body(request: Request[Any, Any, Any]) -> bytes:
    """The whole body. Raises :class:`Problem` (413, 415)."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send the body without a content encoding.")
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code != 413:
            raise
        limit = request.app.state.services.settings.http.max_body_mb
        raise Problem(
            Code.BODY_TOO_LARGE, f"A request body may have at most {limit} MB."
        ) from error
