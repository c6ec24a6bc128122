"""The datasets that a run names."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

_MOST_NAMED: Final = 100
"""Datasets that the parameters of one run may name."""


def named(binding: str | None, parameters: Mapping[str, Any]) -> dict[str, UUID]:
    """The texts that may be ids of datasets: the binding, and values of parameters."""
    found: dict[str, UUID] = {}
    for text in (binding, *parameters.values()):
        if isinstance(text, str) and len(text) <= 50 and len(found) < _MOST_NAMED:
            try:
                found[text] = UUID(text)
            except ValueError:
                continue
    return found
