"""Times, durations and sizes in the words of the API."""

import math
from datetime import datetime
from functools import lru_cache

from nbledger_projections.machinery.quantities import Quantity

_MINUTE = 60.0
_HOUR = 3600.0
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def timestamp(at: datetime) -> str:
    """``at``, which is in UTC, as ``2024-01-20T10:30:00.000Z``: of one width, so sortable."""
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


@lru_cache(maxsize=10_000)
def duration(seconds: float) -> str:
    """A duration such as ``0.5 seconds``, ``17 minutes`` or ``4.2 hours``."""
    seconds = max(0.0, seconds)
    if seconds < 0.0995:
        # One decimal would turn every quick cell into nothing.
        return f"{seconds:.3f}".rstrip("0").ljust(3, "0") + " seconds"
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} seconds"
    if round(seconds / _MINUTE, 1) < 60:
        return _counted(seconds / _MINUTE, "minute")
    return _counted(seconds / _HOUR, "hour")


@lru_cache(maxsize=1_000)
def size(count: int) -> str:
    """A number of bytes such as ``2.3 GB``, ``450 MB`` or ``12 bytes``; a KB is 1,000 bytes."""
    for factor, unit in _UNITS:
        # What would round up to 1000 of a unit is said in the next one.
        if count >= factor * 0.9995:
            value = count / factor
            return f"{_plain(value) if round(value, 1) < 10 else f'{value:.0f}'} {unit}"
    return _counted(count, "byte")


def estimate(shortest: float, longest: float) -> str:
    """A range of durations in seconds, such as ``15-20 minutes``."""
    factor, unit = 1.0, "second"
    if longest > _HOUR:
        factor, unit = _HOUR, "hour"
    elif longest > _MINUTE:
        factor, unit = _MINUTE, "minute"
    low = math.floor(shortest / factor)
    high = max(math.ceil(longest / factor), 1)
    return _counted(high, unit) if low == high else f"{low}-{high} {unit}s"


def _counted(value: float, unit: str) -> str:
    text = _plain(value)
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


def _plain(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class Duration(Quantity):
    """Seconds; see :func:`duration`."""

    def words(self) -> str:
        """As the API answers it."""
        return duration(self.value)


class Size(Quantity):
    """Bytes; see :func:`size`."""

    def words(self) -> str:
        """As the API answers it."""
        return size(self.value)


class Estimate(Quantity):
    """The shortest and the longest duration that is likely, in seconds; see :func:`estimate`."""

    def words(self) -> str:
        """As the API answers it."""
        return estimate(*self.value)
