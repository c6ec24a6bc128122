"""When a delivery that failed is attempted again: the schedule of Standard Webhooks 1.0."""

from typing import Final

_HOUR: Final = 3600.0

RETRY_SECONDS: Final = (
    5.0,
    300.0,
    1800.0,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""Seconds between each failed attempt and the next; after the last one the delivery is dead."""


def next_attempt_after(failures: int, jitter: float = 0.0) -> float | None:
    """Seconds from the failure number ``failures`` to the next attempt; ``None`` for no more.

    ``jitter`` from 0 to 1 adds up to a tenth, so that deliveries that failed together do not
    return together.
    """
    if failures > len(RETRY_SECONDS):
        return None
    return RETRY_SECONDS[failures - 1] * (1 + 0.1 * jitter)
