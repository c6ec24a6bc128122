"""Entity tags and conditional requests (RFC 9110, section 13)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from litestar import Request

from nbledger_application.preconditions import Precondition, Tags
from nbledger_domain.errors import PreconditionFailedError
from nbledger_http.replies.responses import Reply, empty_reply, json_reply

SECOND = timedelta(seconds=1)
_ETAG = re.compile(r'(W/)?"([^"]*)"')
_STREAM_VERSION = re.compile(r"v(\d{1,18})(?:\.p\d{1,18})?")


def last_modified(moment: datetime) -> str:
    """``Last-Modified`` for what was changed at ``moment``.

    An HTTP date has no fractions of a second. While that second lasts there may be one more
    change in it, which the same date would hide: until then it is the second before.
    """
    second = moment.astimezone(UTC).replace(microsecond=0)
    if datetime.now(UTC) < second + SECOND:
        second -= SECOND
    return format_datetime(second, usegmt=True)


def document_reply(
    request: Request[Any, Any, Any],
    document: bytes,
    *,
    etag: str,
    modified_at: datetime,
    by_time: bool = True,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Reply:
    """The document, or 304 where the client says that it has just this one.

    Without ``by_time`` only its entity tag can say so. ``headers`` go along with either. Raises
    :class:`PreconditionFailedError` where the client demands another state.
    """
    require_match(request, etag, modified_at)
    tags = {
        "ETag": etag,
        "Last-Modified": last_modified(modified_at),
        "Cache-Control": "private, no-cache",
        **(headers or {}),
    }
    if _not_modified(request, etag, modified_at if by_time else None):
        return empty_reply(304, tags)
    return json_reply(document, headers=tags, media_type=media_type)


def require_match(
    request: Request[Any, Any, Any],
    etag: str,
    modified_at: datetime | None = None,
    *,
    what: str = "resource",
) -> None:
    """Raise :class:`PreconditionFailedError` where a request that reads demands another state.

    ``what`` it reads was changed last at ``modified_at``; ``None`` where that is not told.
    """
    match = request.headers.get("if-match")
    if match is not None:
        # By strong comparison.
        if match.strip() != "*" and not any(
            not weak and f'"{tag}"' == etag for weak, tag in _ETAG.findall(match)
        ):
            raise PreconditionFailedError(what)
        return
    since = _unmodified_since(request)
    if since is not None and modified_at is not None and modified_at.replace(microsecond=0) > since:
        raise PreconditionFailedError(what)


def none_match(request: Request[Any, Any, Any], etag: str) -> bool:
    """Whether ``If-None-Match`` names this state; by weak comparison."""
    header = request.headers.get("if-none-match", "")
    return header.strip() == "*" or any(f'"{tag}"' == etag for _, tag in _ETAG.findall(header))


def _not_modified(request: Request[Any, Any, Any], etag: str, modified_at: datetime | None) -> bool:
    if "if-none-match" in request.headers:
        return none_match(request, etag)  # If-Modified-Since then does not count.
    moment = _moment(request.headers.get("if-modified-since"))
    if moment is None or modified_at is None:
        return False
    return modified_at.replace(microsecond=0) <= moment


def _unmodified_since(request: Request[Any, Any, Any]) -> datetime | None:
    return _moment(request.headers.get("if-unmodified-since"))


def _moment(header: str | None) -> datetime | None:
    """The time that is told; ``None`` for what is no HTTP date, and does not count then."""
    if header is None:
        return None
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return None if moment.tzinfo is None else moment


def precondition_of(request: Request[Any, Any, Any]) -> Precondition:
    """What a request that changes something demands of its state.

    By ``If-Match``, or else ``If-Unmodified-Since``, and by ``If-None-Match``.
    """
    headers = request.headers
    return precondition(
        headers.get("if-match"), headers.get("if-none-match"), _unmodified_since(request)
    )


def precondition(
    match: str | None, none_match: str | None = None, unmodified_since: datetime | None = None
) -> Precondition:
    """The same of the headers' values."""
    return Precondition(
        # Strong comparison for the one, by which a weak tag never matches; weak for the other.
        accepted=None if match is None else _tags(match, weak=False),
        ruled_out=_tags(none_match or "", weak=True),
        unmodified_since=unmodified_since if match is None else None,
    )


def _tags(header: str, *, weak: bool) -> Tags:
    if header.strip() == "*":
        return Tags(every=True)
    tags = frozenset(tag for prefix, tag in _ETAG.findall(header) if weak or not prefix)
    # The position in a tag is not compared: an execution that was recorded meanwhile does not
    # spoil an edit.
    versions = [match for tag in tags if (match := _STREAM_VERSION.fullmatch(tag))]
    return Tags(frozenset(int(match[1]) for match in versions), tags)
