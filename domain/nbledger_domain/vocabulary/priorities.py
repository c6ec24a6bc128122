"""Priorities of runs."""

from typing import Literal

Priority = Literal["Low", "Normal", "High"]

PRIORITIES: tuple[Priority, ...] = ("High", "Normal", "Low")
"""Highest priority first."""
