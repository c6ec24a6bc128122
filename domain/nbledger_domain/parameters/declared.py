"""What a notebook declares of its parameters, and whether a value fits that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

JsonType = Literal["string", "integer", "number", "boolean", "array", "object", "null"]

MAX_DECLARED: Final = 500
"""More parameters of one notebook are not told."""

MAX_TEXT: Final = 2_000
"""Characters of a default's source, of a type or of a comment; more is cut."""

# Beyond this, writing an integer as decimals takes long.
_MAX_BITS: Final = 256
_MAX_ITEMS: Final = 1_000

NUMERIC: Final = frozenset({"integer", "number"})


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter as the cell tagged ``parameters`` has it.

    ``types`` are the kinds of JSON values that it takes, empty where that is not known: those of
    ``declared_type``, the type that the code names, or else the one of the default. ``default``
    is there where the code has a literal that JSON has, too, and ``default_source`` where it has
    anything. ``help`` is the comment beside it.
    """

    name: str
    types: tuple[JsonType, ...] = ()
    declared_type: str | None = None
    default: Any = UNSET
    default_source: str | None = None
    help: str | None = None

    @property
    def required(self) -> bool:
        """Whether the notebook has no value of its own."""
        return self.declared_type is not None and self.default_source is None

    def takes(self, value: Any) -> bool:
        """Whether a value of JSON fits."""
        kind = type_of(value)
        if not self.types or kind in self.types:
            return True
        if kind == "integer" and "number" in self.types:
            return True
        if kind == "null" and self.default is None:
            return True
        if self.declared_type is not None:
            return False
        # A default alone says little: 1 stands for 0.5 as well, and anything may be left out.
        return kind == "null" or (kind in NUMERIC and not NUMERIC.isdisjoint(self.types))


def declared(
    name: str,
    *,
    types: Sequence[JsonType] | None = None,
    declared_type: str | None = None,
    default: Any = UNSET,
    default_source: str | None = None,
    help: str | None = None,  # noqa: A002 - as clients know it
) -> Declared:
    """The parameter, its types taken from the default where none are given; texts cut."""
    default = bounded(default)
    if types is None:
        types = () if default is UNSET or default is None else (type_of(default),)
    return Declared(
        name=name,
        types=tuple(types),
        declared_type=_cut(declared_type),
        default=default,
        default_source=_cut(default_source),
        help=_cut(help) or None,
    )


def bounded(default: Any) -> Any | UnsetType:
    """The default, unless it is too large to be told as JSON."""
    return UNSET if _count(default) > _MAX_ITEMS else default


def type_of(value: Any) -> JsonType:
    """The kind of a JSON value; whole numbers are integers unless written with a fraction."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"


def _count(value: Any) -> int:
    """How many values there are in this one; one that is too large counts for too many."""
    if isinstance(value, str):
        return 1 if len(value) <= MAX_TEXT else _MAX_ITEMS + 1
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return _MAX_ITEMS + 1
    if isinstance(value, dict):
        return 1 + sum(1 + _count(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(map(_count, value))
    return 1


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}…"
