"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
import time

import msgspec

from nbledger_client.core.requests import Repeat
from nbledger_client.errors import (
    AnswerNotUnderstoodError,
    ApiError,
    NbledgerError,
    TransportError,
)

REFUSED = frozenset({"rate_limited", "queue_full", "conflict", "unavailable"})
"""Codes that say that nothing was done, and that it may go better later."""

UNKNOWN = frozenset({"outcome_unknown"})
"""Codes after which nobody knows whether it was done."""

PROXIES = frozenset({502, 503, 504})
"""Statuses of what stands before the service and could not reach it, or not in time."""


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """How often and when what may be sent again is.

    Between two attempts lies a random part of a time that doubles, or what `Retry-After` asks for
    where that is more.

    Attributes:
        attempts: how often a request is sent at most; 1 is once.
        first_seconds: most that lies between the first two.
        longest_seconds: most that lies between any two, unless `Retry-After` asks for more.
        total_seconds: after so many seconds no further attempt begins.
    """

    attempts: int = 5
    first_seconds: float = 0.25
    longest_seconds: float = 10.0
    total_seconds: float = 60.0


NEVER = Retries(attempts=1)


class Attempts:
    """The attempts of one request."""

    def __init__(self, retries: Retries, repeat: Repeat) -> None:
        self._retries = retries
        self._repeat = repeat
        self._began = time.monotonic()
        self._made = 0
        self.uncertain = False
        """Whether an earlier attempt may have done what was asked for."""

    def again(self, error: NbledgerError) -> float | None:
        """Seconds until the next attempt; None where there is none."""
        self._made += 1
        uncertain = may_be_done(error)
        if uncertain is None or (uncertain and self._repeat is Repeat.NEVER):
            return None
        self.uncertain |= uncertain
        if self._made >= self._retries.attempts:
            return None
        seconds = self._pause(getattr(error, "retry_after", None))
        spent = time.monotonic() - self._began
        return None if spent + seconds > self._retries.total_seconds else seconds

    def _pause(self, asked: float | None) -> float:
        doubled = self._retries.first_seconds * 2.0 ** min(self._made - 1, 30)
        longest = min(doubled, self._retries.longest_seconds)
        jitter = random.uniform(0, longest)  # noqa: S311 - no secret
        return jitter if asked is None else asked + jitter * 0.1


def may_be_done(error: NbledgerError) -> bool | None:
    """Whether what was asked for may have been done; None where sending it again is of no use."""
    if isinstance(error, AnswerNotUnderstoodError):
        return None
    if isinstance(error, TransportError):
        return error.reached
    if isinstance(error, ApiError):
        if error.code in REFUSED:
            return False
        if error.code in UNKNOWN or (not error.code and error.status in PROXIES):
            return True
    return None
