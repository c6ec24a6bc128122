"""Scala: names and literals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from nbledger_domain.parameters.values import (
    JSON,
    UnrenderableValueError,
    deeper,
    object_items,
    text_pieces,
    unknown_type,
)

FORM: Final = ("// Parameters", "val {name} = {value}")

# Of a class file: 65,535 bytes for a constant, up to three for each UTF-16 code unit, and as many
# for the code of a method. An item of a collection takes about twenty.
_STRING_PIECE: Final = 10_000
_GROUP: Final = 500
_JOINED: Final = 50

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = frozenset(
    [
        *("_", "abstract", "case", "catch", "class", "def", "do", "else", "enum", "export"),
        *("extends", "false", "final", "finally", "for", "forSome", "given", "if", "implicit"),
        *("import", "lazy", "macro", "match", "new", "null", "object", "override", "package"),
        *("private", "protected", "return", "sealed", "super", "then", "this", "throw", "trait"),
        *("true", "try", "type", "val", "var", "while", "with", "yield"),
    ]
)

# Their meaning is fixed by what every object of Scala has, or needed by the literals below.
_TAKEN = frozenset(
    [
        *("asInstanceOf", "BigInt", "clone", "Double", "eq", "equals", "finalize", "getClass"),
        *("hashCode", "isInstanceOf", "Map", "ne", "None", "notify", "notifyAll", "scala", "Seq"),
        *("StringBuilder", "synchronized", "toString", "wait"),
    ]
)


def check_name(name: str) -> str | None:
    """Why ``name`` cannot be a variable of Scala; ``None`` where it can."""
    if not _NAME.fullmatch(name):
        return "is not a Scala identifier of ASCII letters, digits and '_'"
    if name in _RESERVED:
        return "is a reserved word of Scala"
    if name in _TAKEN:
        return "has a meaning of its own in Scala"
    return None


def _string(value: str) -> str:
    pieces = [_piece(piece) for piece in text_pieces(value, _STRING_PIECE)]
    if len(pieces) == 1:
        return pieces[0]
    # Not joined by `+`: the compiler would make one constant of them.
    return "new StringBuilder()" + "".join(f".append({piece})" for piece in pieces) + ".toString"


def _group(name: str, items: list[tuple[str, int]]) -> tuple[str, int]:
    """A collection of rendered items and its weight, in items.

    What would make a method too large is split into parts: objects, so classes, of their own.
    """
    groups: list[list[str]] = [[]]
    weight = 0
    for text, cost in items:
        if weight + cost > _GROUP:
            groups.append([])
            weight = 0
        groups[-1].append(text)
        weight += cost
    parts = [f"{name}({', '.join(group)})" for group in groups]
    if len(parts) == 1:
        return parts[0], weight + 1
    while len(parts) > 1:
        wrapped = [f"{{ object part {{ def items = {part} }}; part.items }}" for part in parts]
        parts = [" ++ ".join(wrapped[at : at + _JOINED]) for at in range(0, len(wrapped), _JOINED)]
    return f"({parts[0]})", _JOINED


def _would_round(items: Sequence[JSON]) -> bool:
    """Whether Scala would make doubles of integers that no double equals: numbers share a type."""
    return any(type(item) is float for item in items) and any(
        type(item) is int and abs(item) > 2**53 for item in items
    )


def _piece(value: str) -> str:
    parts = []
    for character in value:
        code = ord(character)
        if character in _ESCAPES:
            parts.append(_ESCAPES[character])
        elif 0x20 <= code < 0x7F:
            parts.append(character)
        else:
            units = character.encode("utf-16-be", "surrogatepass").hex()
            parts.extend(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return '"' + "".join(parts) + '"'


# Never as \uXXXX: some Scala versions replace those before they look for the string's end.
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def literal(value: JSON, depth: int) -> str:
    """``value`` as a literal, inside ``depth`` brackets. Raises `UnrenderableValueError`."""
    return _weighed(value, depth)[0]


def _weighed(value: JSON, depth: int) -> tuple[str, int]:
    if isinstance(value, Mapping):
        depth = deeper(depth)
        pairs = []
        for key, item in object_items(value):
            text, cost = _weighed(item, depth)
            pairs.append((f"{_string(key)} -> {text}", cost + 2))
        return _group("Map", pairs)
    if isinstance(value, list | tuple):
        depth = deeper(depth)
        name = "Seq[Any]" if _would_round(value) else "Seq"
        return _group(name, [_weighed(item, depth) for item in value])
    if isinstance(value, str):
        return _string(value), 1 + len(value) // _STRING_PIECE
    return _scalar(value), 1


def _scalar(value: JSON) -> str:
    if value is None:
        return "None"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if value.bit_length() > 4096:
            message = "is an integer too large for a literal"
            raise UnrenderableValueError(message)
        if -(2**31) <= value < 2**31:
            return str(value)
        return f"{value}L" if -(2**63) <= value < 2**63 else f'BigInt("{value}")'
    if isinstance(value, float):
        if math.isnan(value):
            return "Double.NaN"
        if math.isinf(value):
            return f"Double.{'Positive' if value > 0 else 'Negative'}Infinity"
        return repr(value)
    raise unknown_type(value)
