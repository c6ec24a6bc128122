"""Moments of the past, as they are asked for: a time, a position of the store, or a version."""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

MAX_POSITION: Final = 2**63 - 1

_POSITION: Final = re.compile(r"\d{1,19}", re.ASCII)
_VERSION: Final = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
# A + that was not written %2B has become a space on the way.
_LOST_PLUS: Final = re.compile(r".*:\d\d(?:\.\d+)? \d\d:\d\d", re.ASCII)

EXPECTED: Final = (
    "must be a time with its zone, such as 2026-11-29T10:30:00Z, or the position of an event"
)


class AtPosition(msgspec.Struct, frozen=True):
    """After the event at this position of the store, and before the next."""

    position: int


class AtTime(msgspec.Struct, frozen=True):
    """After all that was recorded up to this time, which is in UTC."""

    at: datetime


class AtVersion(msgspec.Struct, frozen=True):
    """When the notebook became this version, such as 1.2.0."""

    version: str


AsOf = AtPosition | AtTime | AtVersion


def parse(text: str, *, versions: bool = False) -> AsOf:
    """The moment that ``text`` names; of a notebook also by one of its ``versions``.

    Digits alone are a position, three numbers with dots between them a version, anything else is a
    time as in RFC 3339. Raises ``ValueError`` with what it must be.
    """
    if _POSITION.fullmatch(text):
        return _position(int(text))
    if _VERSION.fullmatch(text):
        if not versions:
            raise ValueError(f"{EXPECTED}; only notebooks are read as of a version")
        return AtVersion(text)
    if _TIME.fullmatch(text):
        return _time(text)
    if _LOST_PLUS.fullmatch(text):
        raise ValueError(f"{EXPECTED}; a + in an address is written %2B")
    raise ValueError(EXPECTED + (", or a version, such as 1.2.0" if versions else ""))


def _position(number: int) -> AtPosition:
    if not 1 <= number <= MAX_POSITION:
        raise ValueError(f"{EXPECTED}, from 1")
    return AtPosition(number)


def _time(text: str) -> AtTime:
    # More than microseconds are not recorded. Answers tell milliseconds, cut off: one that is given
    # back means all of it.
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.upper())
    text = re.sub(r"(\.\d{3})(?!\d)", r"\g<1>999", text)
    try:
        return AtTime(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        raise ValueError("is no time that there is") from None


def written(at: datetime) -> str:
    """The time as messages tell it: in UTC, to the millisecond."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
