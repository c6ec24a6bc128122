"""Numbers and lists in the words of messages."""

from collections.abc import Sequence
from typing import Final

MOST_LISTED: Final = 5
"""Of what may be any number, so many are named; the others are counted."""


def many(count: int, unit: str) -> str:
    """``count`` with its ``unit``: ``1 byte``, ``2,500 bytes``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def counted(value: float, unit: str) -> str:
    """``value`` with its ``unit``: ``1 second``, ``2.5 seconds``, ``1800 seconds``."""
    return f"{value:.10g} {unit}" if value == 1 else f"{value:.10g} {unit}s"


def listed(names: Sequence[str], *, most: int = MOST_LISTED) -> str:
    """``names`` in one text: the first ``most`` of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
