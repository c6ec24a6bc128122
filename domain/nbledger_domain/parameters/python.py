"""Python: names and literals."""

from __future__ import annotations

import keyword
import math
import unicodedata
from collections.abc import Mapping
from typing import Final

from nbledger_domain.parameters.values import JSON, deeper, object_items, unknown_type

FORM: Final = ("# Parameters", "{name} = {value}")


def check_name(name: str) -> str | None:
    """Why ``name`` cannot be a variable of Python; ``None`` where it can."""
    if not name.isidentifier():
        return "is not a Python identifier"
    if keyword.iskeyword(name):
        return "is a Python keyword"
    # Python normalises identifiers: two spellings would silently be one variable.
    if unicodedata.normalize("NFKC", name) != name:
        return "is not in the normal form (NFKC) that Python uses for identifiers"
    if name == "__debug__":
        return "cannot be assigned in Python"
    return None


def literal(value: JSON, depth: int) -> str:
    """``value`` as a literal, inside ``depth`` brackets. Raises `UnrenderableValueError`."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        # Decimal conversion of huge integers is quadratic and limited by the interpreter.
        return repr(value) if value.bit_length() <= 256 else hex(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"float('{value!r}')"
    if isinstance(value, str):
        # repr escapes quotes, backslashes, controls, bidirectional marks and lone surrogates.
        return repr(str(value))
    if isinstance(value, Mapping):
        depth = deeper(depth)
        pairs = (f"{key!r}: {literal(item, depth)}" for key, item in object_items(value))
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        depth = deeper(depth)
        return "[" + ", ".join(literal(item, depth) for item in value) + "]"
    raise unknown_type(value)
