"""Entity tags and conditional requests (RFC 9110, section 13)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from litestar import Request

from nbledger_http.replies import Reply, empty_reply, json_reply

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
) -> Reply:
    """The document, or 304 where the client says that it has just this one.

    Without ``by_time`` only its entity tag can say so. ``headers`` go along with either.
    """
    tags = {
        "ETag": etag,
        "Last-Modified": last_modified(modified_at),
        "Cache-Control": "private, no-cache",
        **(headers or {}),
    }
    if _not_modified(request, etag, modified_at if by_time else None):
        return empty_reply(304, tags)
    return json_reply(document, headers=tags)


def none_match(request: Request[Any, Any, Any], etag: str) -> bool:
    """Whether ``If-None-Match`` names this state; by weak comparison."""
    header = request.headers.get("if-none-match", "")
    return header.strip() == "*" or any(f'"{tag}"' == etag for _, tag in _ETAG.findall(header))


def _not_modified(request: Request[Any, Any, Any], etag: str, modified_at: datetime | None) -> bool:
    if "if-none-match" in request.headers:
        return none_match(request, etag)  # If-Modified-Since then does not count.
    since = request.headers.get("if-modified-since")
    if since is None or modified_at is None:
        return False
    try:
        moment = parsedate_to_datetime(since)
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
    if moment.tzinfo is None:
        return False
    return modified_at.replace(microsecond=0) <= moment


class Precondition:
    """What an ``If-Match`` header demands of the version of a stream."""

    def __init__(self, header: str | None) -> None:
        self._any = header is None or header.strip() == "*"
        self._tags = {tag for weak, tag in _ETAG.findall(header or "") if not weak}
        # Strong comparison: a weak tag never matches. The position in a tag is not compared:
        # an execution that was recorded meanwhile does not spoil an edit.
        self._versions = {
            int(match[1])
            for weak, tag in _ETAG.findall(header or "")
            if not weak and (match := _STREAM_VERSION.fullmatch(tag))
        }

    def holds(self, stream_version: int) -> bool:
        """Whether what is at this version may be changed."""
        return self._any or stream_version in self._versions

    def names(self, tag: str) -> bool:
        """Whether it demands the state that has this entity tag."""
        return tag in self._tags


class NoneMatch:
    """What an ``If-None-Match`` header demands of a write: that no such state is there."""

    def __init__(self, header: str | None) -> None:
        self._any = header is not None and header.strip() == "*"
        # Weak comparison: a weak tag matches, too.
        self._tags = {tag for _, tag in _ETAG.findall(header or "")}

    def holds(self, tag: str | None) -> bool:
        """Whether what has this entity tag may be written over; ``None`` where nothing is."""
        return tag is None or not (self._any or tag in self._tags)
