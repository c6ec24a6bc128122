"""Query parameters, and what headers ask for."""

import re
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from msgspec import Meta

from nbledger_http.requests.declared import FaultReport, read_query

S = TypeVar("S", bound=msgspec.Struct)

MAX_WAIT_SECONDS = 60
"""The longest that an answer is held back, whatever the client prefers."""

MAX_POSITION = 2**63 - 1
_POSITION = re.compile(r"\d{1,19}\Z", re.ASCII)
_WAIT = re.compile(r"\s*wait\s*=\s*(\"?)(\d{1,9})\1\s*(?:;.*)?\Z", re.ASCII | re.IGNORECASE)


class Paging(msgspec.Struct, rename="camel", kw_only=True):
    """Which page of a list."""

    page: Annotated[int, Meta(ge=1, le=1_000_000_000, description="Page number, from 1.")] = 1
    page_size: Annotated[int, Meta(ge=1, le=100, description="Items per page.")] = 20


def read(request: Request[Any, Any, Any], kind: type[S]) -> tuple[S, FaultReport]:
    """The query of ``request`` as a ``kind``, and what is wrong with it.

    Of two parameters with one name the last counts. One that is there and empty is refused as any
    other wrong value.
    """
    raw = request.scope["query_string"].decode("latin-1")
    given = parse_qsl(raw, keep_blank_values=True, encoding="utf-8", errors="replace")
    report = FaultReport()
    return read_query(kind, dict(given), report), report


def checked(request: Request[Any, Any, Any], kind: type[S]) -> S:
    """Likewise; raises :class:`InvalidInputError` with every fault."""
    query, report = read(request, kind)
    report.check()
    return query


def preferred_wait(request: Request[Any, Any, Any]) -> int | None:
    """The seconds of ``Prefer: wait=N`` (RFC 7240), as many as are granted."""
    for header in request.headers.getall("prefer", []):
        for preference in header.split(","):
            if found := _WAIT.match(preference):
                return min(int(found[2]), MAX_WAIT_SECONDS)
    return None


def wait_applied(seconds: int | None) -> dict[str, str]:
    """The header that tells of a granted wait; none without one."""
    return {} if seconds is None else {"Preference-Applied": f"wait={seconds}"}


def position(text: str) -> int | None:
    """A position in the store; ``None`` for what is none."""
    return int(text) if _POSITION.match(text) and int(text) <= MAX_POSITION else None


class AwaitedPosition(NamedTuple):
    """What a list is to have reached, and for how many seconds that is waited for."""

    position: int
    seconds: int | None


def awaited_position(
    request: Request[Any, Any, Any], report: FaultReport
) -> AwaitedPosition | None:
    """The position that a list is to have reached, and the seconds to wait for it."""
    text = request.headers.get("nbledger-position")
    if text is None:
        return None
    awaited = position(text)
    if awaited is None:
        report.fault("Nbledger-Position", "must be a whole number, 0 or more")
        return None
    return AwaitedPosition(awaited, preferred_wait(request))
