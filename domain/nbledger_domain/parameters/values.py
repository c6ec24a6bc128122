"""What the literals of all languages have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: A JSON value: null, boolean, number, string, array or object with string keys.
JSON = Any

#: Deeper values are refused: Python's own parser gives up at 200 open brackets.
MAX_DEPTH: Final = 64


class UnrenderableValueError(ValueError):
    """A value has no literal in the kernel's language."""


def deeper(depth: int) -> int:
    """The depth inside of one more bracket. Raises `UnrenderableValueError`."""
    if depth >= MAX_DEPTH:
        message = f"is nested more than {MAX_DEPTH} deep"
        raise UnrenderableValueError(message)
    return depth + 1


def object_items(value: Mapping[Any, JSON]) -> list[tuple[str, JSON]]:
    """The members of a JSON object. Raises `UnrenderableValueError`."""
    for key in value:
        if not isinstance(key, str):
            message = "has an object key that is no string"
            raise UnrenderableValueError(message)
    return list(value.items())


def unknown_type(value: object) -> UnrenderableValueError:
    """The error for a value that is no JSON."""
    return UnrenderableValueError(f"is of type {type(value).__name__}, which is no JSON type")


def text_pieces(value: str, size: int) -> list[str]:
    """``value`` in pieces of at most ``size`` characters; one empty piece for no text."""
    return [value[at : at + size] for at in range(0, len(value), size)] or [""]
