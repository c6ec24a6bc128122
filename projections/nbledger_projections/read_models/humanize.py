"""Times, durations and sizes in the words of the API."""

import math
import statistics
from collections.abc import Sequence
from datetime import datetime

_MINUTE = 60.0
_HOUR = 3600.0
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def timestamp(at: datetime) -> str:
    """``at``, which is in UTC, as ``2024-01-20T10:30:00.000Z``: of one width, so sortable."""
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


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


def size(count: int) -> str:
    """A number of bytes such as ``2.3 GB``, ``450 MB`` or ``12 bytes``; a KB is 1,000 bytes."""
    for factor, unit in _UNITS:
        # What would round up to 1000 of a unit is said in the next one.
        if count >= factor * 0.9995:
            value = count / factor
            return f"{_plain(value) if round(value, 1) < 10 else f'{value:.0f}'} {unit}"
    return _counted(count, "byte")


def estimate(durations: Sequence[float]) -> str | None:
    """How long a run may take, from ``durations`` of earlier ones in seconds.

    A range such as ``15-20 minutes``; ``None`` when there were none. Of four or more it is the
    middle half of them, so that a run which was held up once spoils no estimate.
    """
    if not durations:
        return None
    shortest, longest = min(durations), max(durations)
    if len(durations) >= 4:
        shortest, _, longest = statistics.quantiles(durations, n=4, method="inclusive")
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
