"""Cron expressions in a time zone: which moments they name, and what they say in words.

The dialect is cronsim's, which is Debian's cron with `L` (the last day or weekday of a month) and
`1#2` (the second Monday). So is what happens when clocks change:

- an expression whose minute or hour begins with `*` goes by real time: a repeated hour has its
  firings twice, an hour that is left out has none;
- any other names times of the day, each of which comes once: one that is left out comes right after
  the gap, one that is repeated comes the first time only.
"""

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""The names that stand for an expression."""

ZONE_PREFIX: Final = "CRON_TZ="
DEFAULT_ZONE: Final = "UTC"
MAX_LENGTH: Final = 200

_MINUTE: Final = timedelta(minutes=1)
_A_DAY: Final = timedelta(hours=25)
"""Longer than any change of the clocks; shorter than the time between two of them."""


class _Field(NamedTuple):
    name: str
    takes: str


_FIELDS: Final = (
    _Field("minute", "0 to 59"),
    _Field("hour", "0 to 23"),
    _Field("day of the month", "1 to 31, or L for the last"),
    _Field("month", "1 to 12, or JAN to DEC"),
    _Field("day of the week", "0 to 7 (0 and 7 are Sunday), or SUN to SAT; 5L, 1#2"),
)


class CronError(ValueError):
    """The text is no cron expression, or no zone; the message says why."""


class Cron:
    """An expression of five fields in a zone of the IANA database."""

    __slots__ = ("_goes_by_clock", "_zone", "expression", "time_zone")

    def __init__(self, expression: str, time_zone: str = DEFAULT_ZONE) -> None:
        """Raises :class:`CronError`."""
        self._zone = _zone(time_zone)
        self.time_zone = time_zone
        self.expression = _normal(expression)
        minute, hour, *_ = self.expression.split()
        self._goes_by_clock = not minute.startswith("*") and not hour.startswith("*")

    def describe(self) -> str:
        """The expression in words, with the zone."""
        words = CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC)).explain()
        return f"{words} ({self.time_zone})"

    def after(self, moment: datetime) -> datetime | None:
        """The first moment that it names after this one, in UTC; ``None`` if there is none."""
        if self._zone is UTC:
            found = self._local_after(moment.replace(tzinfo=None))
            return None if found is None else found.replace(tzinfo=UTC)
        return self._after(moment)

    def upcoming(self, after: datetime) -> Iterator[datetime]:
        """The moments that it names after this one, in order."""
        moment = self.after(after)
        while moment is not None:
            yield moment
            moment = self.after(moment)

    def _local_after(self, local: datetime) -> datetime | None:
        """The first time after ``local`` that it names, on clocks that are never changed."""
        return next(CronSim(self.expression, local), None)

    def _after(self, moment: datetime) -> datetime | None:
        start, local = moment, self._local(moment)
        while (found := self._local_after(local)) is not None:
            change = _change(self._zone, start)
            if change is None or found - change.before < change.at.replace(tzinfo=None):
                instant = self._instant(found, moment)
                if instant is not None:
                    return instant
                local = found
                continue
            # The clocks are changed before that time comes.
            shown = change.at.replace(tzinfo=None) + change.after
            if self._goes_by_clock and found < shown and change.at > moment:
                return change.at
            start, local = change.at, shown - _MINUTE
        return None

    def _instant(self, local: datetime, moment: datetime) -> datetime | None:
        """When clocks that show ``local`` make it fire, after ``moment``; ``None`` if never."""
        first = local.replace(tzinfo=self._zone).astimezone(UTC)
        if self._local(first) != local:
            change = _change(self._zone, first - _A_DAY) if self._goes_by_clock else None
            return change.at if change is not None and change.at > moment else None
        if first > moment:
            return first
        if self._goes_by_clock:
            return None
        second = local.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        return second if second > moment else None

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)


class _Change(NamedTuple):
    """When clocks are changed, and how far they are ahead of UTC before and after."""

    at: datetime
    before: timedelta
    after: timedelta


def _change(zone: tzinfo, moment: datetime) -> _Change | None:
    """The change of the clocks within a day after ``moment``, if there is one."""
    low = moment.replace(second=0, microsecond=0)
    high = low + _A_DAY
    before, after = _offset(zone, low), _offset(zone, high)
    if before == after:
        return None
    while high - low > _MINUTE:
        middle = low + (high - low) // (2 * _MINUTE) * _MINUTE
        if _offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return _Change(high, before, after)


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 (a zone has one)
    return offset


def split_zone(text: str) -> tuple[str, str | None]:
    """The expression in ``text``, and the zone that it begins with, where it does."""
    text = text.strip()
    if not text.upper().startswith(ZONE_PREFIX):
        return text, None
    zone, _, expression = text[len(ZONE_PREFIX) :].partition(" ")
    return expression.strip(), zone


@lru_cache(maxsize=4096)
def cron(expression: str, time_zone: str = DEFAULT_ZONE) -> Cron:
    """The expression, read once however often it is asked for. Raises :class:`CronError`."""
    return Cron(expression, time_zone)


@lru_cache(maxsize=16384)
def next_after(expression: str, time_zone: str, moment: datetime) -> datetime | None:
    """As :meth:`Cron.after`: many schedules have one expression, and are due at one time."""
    return cron(expression, time_zone).after(moment)


def _normal(expression: str) -> str:
    """The five fields, after every fault has been looked for."""
    text = expression.strip()
    if len(text) > MAX_LENGTH:
        raise CronError(f"must have at most {MAX_LENGTH} characters")
    if text.startswith("@"):
        named = NAMES.get(text.lower())
        if named is None:
            raise CronError(f"there is no {text!r}; there are {', '.join(NAMES)}")
        return named
    fields = text.split()
    if len(fields) != len(_FIELDS):
        named = ", ".join(field.name for field in _FIELDS)
        found = f"{len(fields)} field" if len(fields) == 1 else f"{len(fields)} fields"
        raise CronError(f"has {found}; a cron expression has five: {named}; or one of {_names()}")
    wrong = [
        f"{field.name}: {text!r} is not possible; it takes {field.takes}, *, lists (a,b), "
        "ranges (a-b) and steps (*/n)"
        for place, (field, text) in enumerate(zip(_FIELDS, fields, strict=True))
        if not _reads(["*"] * place + [text] + ["*"] * (len(_FIELDS) - place - 1))
    ]
    if wrong:
        raise CronError("; ".join(wrong))
    if not _reads(fields) or not _comes(fields):
        raise CronError("never comes: no month that it names has such a day")
    return " ".join(fields).upper()


def _names() -> str:
    return ", ".join(NAMES)


def _reads(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1))  # noqa: DTZ001 (of no zone)
    except (CronSimError, ValueError, IndexError):
        return False
    return True


def _comes(fields: list[str]) -> bool:
    return next(CronSim(" ".join(fields), datetime(2000, 1, 1)), None) is not None  # noqa: DTZ001


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> tzinfo:
    if name in (DEFAULT_ZONE, "Etc/UTC"):
        return UTC
    if name not in _zones():
        near = difflib.get_close_matches(name, _zones(), n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise CronError(f"{name!r} is no time zone of the IANA database{meant}")
    return ZoneInfo(name)
