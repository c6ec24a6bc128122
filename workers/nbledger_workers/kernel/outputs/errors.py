"""Errors of cells as text, of a bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nbledger_domain.words import many

_MAX_ERROR_NAME = 200

_MAX_ERROR_VALUE = 10_000

_MAX_TRACEBACK_LINES = 200

_MAX_TRACEBACK_CHARACTERS = 100_000


class ErrorText(msgspec.Struct, frozen=True):
    """An error as a kernel tells it, capped."""

    name: str
    value: str
    traceback: list[str]


def error_text(content: Mapping[str, Any]) -> ErrorText:
    """Name, value and traceback of an error's content, each of a sane length.

    What is cut says so where it was cut.
    """
    frames = content.get("traceback")
    frames = frames if isinstance(frames, list) else []
    lines: list[str] = []
    left = _MAX_TRACEBACK_CHARACTERS
    # The end of a traceback tells most.
    for entry in reversed(frames[-_MAX_TRACEBACK_LINES:]):
        line = clean(str(entry))[-left:]
        lines.append(line)
        left -= len(line)
        if left <= 0:
            break
    cut = sum(map(len, map(str, frames))) - sum(map(len, lines))
    if cut > 0:
        lines.append(f"[{many(cut, 'character')} of the traceback's beginning left out]")
    return ErrorText(
        _shortened(str(content.get("ename") or "Error"), _MAX_ERROR_NAME),
        _shortened(str(content.get("evalue") or ""), _MAX_ERROR_VALUE),
        lines[::-1],
    )


def _shortened(text: str, most: int) -> str:
    text = clean(text)
    if len(text) <= most:
        return text
    return f"{text[:most]}… [{many(len(text) - most, 'character')} left out]"


def clean(text: str) -> str:
    """The text as any store can hold it: no NUL, no lone surrogate."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
