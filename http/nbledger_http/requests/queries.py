"""Query parameters and request headers, checked; every fault is told at once."""

import re
from collections.abc import Collection
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from litestar import Request

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_http.requests.bodies import boolean
from nbledger_http.requests.validation import MAX_TOLD, nearest

MAX_WAIT_SECONDS = 60
"""For how long an answer is held back at most, whatever the client prefers."""

MAX_POSITION = 2**63 - 1
_POSITION = re.compile(r"\d{1,19}\Z", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}\Z", re.ASCII)
_WAIT = re.compile(r"\s*wait\s*=\s*(\"?)(\d{1,9})\1\s*(?:;.*)?\Z", re.ASCII | re.IGNORECASE)


class Query:
    """The parameters of a request's query; of two with one name the last counts.

    One that is there and empty is refused as any other wrong value.

    What is like none that is asked for is passed over: caches and logs add their own.
    """

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        raw = request.scope["query_string"]
        self._values: dict[str, str] = {}
        if raw:
            self._values = dict(
                parse_qsl(
                    raw.decode("latin-1"),
                    keep_blank_values=True,
                    encoding="utf-8",
                    errors="replace",
                )
            )
        self._known: dict[str, None] = {}
        self.faults: list[Fault] = []

    def text(self, name: str) -> str | None:
        """The parameter as it is, which is not empty."""
        value = self._value(name)
        if value == "":
            self._fault(name, "must not be empty")
            return None
        return value

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """One of ``allowed``."""
        value = self._value(name)
        if value is not None and value not in allowed:
            self._fault(name, f"must be one of {', '.join(allowed)}")
            return None
        return value

    def flag(self, name: str) -> bool | None:
        """``true`` or ``false``."""
        value = self._value(name)
        found = None if value is None else boolean(value)
        if value is not None and found is None:
            self._fault(name, "must be true or false")
        return found

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._value(name)
        if value is None:
            return default
        if _INTEGER.match(value) is None or not low <= int(value) <= high:
            self._fault(name, f"must be a whole number from {low} to {high}")
            return default
        return int(value)

    def check(self) -> None:
        """Raise :class:`InvalidInputError` with every fault found, once all is asked for.

        A mistyped name is one: it must not pass for a parameter that was left out.
        """
        for name in self._values:
            if name not in self._known and len(self.faults) < MAX_TOLD:
                near = nearest(name, self._known)
                if near is not None:
                    self._fault(name, f"is an unknown parameter; did you mean {near}?")
        if self.faults:
            raise InvalidInputError(self.faults)

    def _value(self, name: str) -> str | None:
        self._known[name] = None
        return self._values.get(name)

    def _fault(self, name: str, reason: str) -> None:
        self.faults.append(Fault(f"?{name}", reason))


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


def awaited_position(request: Request[Any, Any, Any], query: Query) -> AwaitedPosition | None:
    """The position that a list is to have reached, and the seconds to wait for it."""
    text = request.headers.get("nbledger-position")
    if text is None:
        return None
    awaited = position(text)
    if awaited is None:
        query.faults.append(Fault("Nbledger-Position", "must be a whole number, 0 or more"))
        return None
    return AwaitedPosition(awaited, preferred_wait(request))
