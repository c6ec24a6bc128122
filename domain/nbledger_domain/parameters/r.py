"""R: names and literals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from nbledger_domain.parameters.values import (
    JSON,
    UnrenderableValueError,
    object_items,
    text_pieces,
    unknown_type,
)

FORM: Final = ("# Parameters", "{name} <- {value}")

# Of R's parser: open brackets, and characters of a string that has escapes for Unicode.
_OPEN_BRACKETS: Final = 48
_STRING_PIECE: Final = 8_000
# Digits and exponents that R's parser turns into the nearest double without fail.
_PLAIN_NUMBER = re.compile(r"(?=(?:\D*\d){1,15}\D*\Z)-?[0-9]+(?:\.[0-9]+)?")

_NAME = re.compile(r"(?:[A-Za-z]|\.(?![0-9]))[A-Za-z0-9._]*")
_RESERVED = frozenset(
    [
        *("if", "else", "repeat", "while", "function", "for", "next", "break", "in", "TRUE"),
        *("FALSE", "NULL", "Inf", "NaN", "NA", "NA_integer_", "NA_real_", "NA_complex_"),
        *("NA_character_",),
    ]
)
_DOTS = re.compile(r"\.\.\.|\.\.[0-9]+")


def check_name(name: str) -> str | None:
    """Why ``name`` cannot be a variable of R; ``None`` where it can."""
    if not _NAME.fullmatch(name) or _DOTS.fullmatch(name):
        return "is not an R name of ASCII letters, digits, '.' and '_'"
    if name in _RESERVED:
        return "is a reserved word of R"
    return None


def _string(value: str) -> str:
    pieces = [_piece(piece) for piece in text_pieces(value, _STRING_PIECE)]
    return pieces[0] if len(pieces) == 1 else f"paste0({', '.join(pieces)})"


def _piece(value: str) -> str:
    parts = []
    for character in value:
        code = ord(character)
        if code == 0:
            message = "holds a NUL character, which R strings cannot"
            raise UnrenderableValueError(message)
        if 0xD800 <= code <= 0xDFFF:
            message = "holds a lone surrogate, which R strings cannot"
            raise UnrenderableValueError(message)
        if character in '\\"':
            parts.append("\\" + character)
        elif 0x20 <= code < 0x7F:
            parts.append(character)
        else:
            parts.append(f"\\U{code:08X}")
    return '"' + "".join(parts) + '"'


def _number(value: float) -> str:
    """R's own conversion of decimal digits is not exact; that of hexadecimal ones is."""
    text = repr(value).removesuffix(".0")
    exact = abs(value) <= 2**53 and value.is_integer()
    return text if exact or _PLAIN_NUMBER.fullmatch(text) else value.hex()


def _integer(value: int) -> str:
    # A plain number is a double: R's 32-bit integers would overflow into NA.
    if value.bit_length() > 1023:
        message = "is an integer outside the range of R's numbers"
        raise UnrenderableValueError(message)
    if int(float(value)) != value:
        message = (
            "is an integer beyond 2^53 that R's numbers, which are doubles, cannot hold exactly; "
            "send it as text"
        )
        raise UnrenderableValueError(message)
    return _number(float(value))


def _deeper(depth: int, brackets: int) -> int:
    if depth + brackets > _OPEN_BRACKETS:
        message = "is nested deeper than R can read"
        raise UnrenderableValueError(message)
    return depth + brackets


def literal(value: JSON, depth: int) -> str:  # noqa: C901 - one case for each type
    """``value`` as a literal, inside ``depth`` brackets. Raises `UnrenderableValueError`."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Inf" if value > 0 else "-Inf"
        return _number(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        depth = _deeper(depth, 2)
        items = object_items(value)
        if not items:
            return "structure(list(), names = character(0))"
        members = ", ".join(literal(item, depth) for _, item in items)
        names = ", ".join(_string(key) for key, _ in items)
        # Not list("key" = …): R refuses an empty name there.
        return f"structure(list({members}), names = c({names}))"
    if isinstance(value, list | tuple):
        depth = _deeper(depth, 1)
        return "list(" + ", ".join(literal(item, depth) for item in value) + ")"
    raise unknown_type(value)
