"""Notebook parameters: literals of the kernel's language, placed in a cell of their own.

A cell tagged `injected-parameters` goes right after the first cell tagged `parameters` and so
overrides the defaults written there. Values are only ever rendered as literals: no text of a
caller becomes code.
"""

from __future__ import annotations

import keyword
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

Language = Literal["python", "r", "scala"]

#: A JSON value: null, boolean, number, string, array or object with string keys.
JSON = Any

PARAMETERS_TAG: Final = "parameters"
INJECTED_TAG: Final = "injected-parameters"

#: Deeper values are refused: Python's own parser gives up at 200 open brackets.
MAX_DEPTH: Final = 64

# Of R's parser: open brackets, and characters of a string that has escapes for Unicode.
_R_OPEN_BRACKETS: Final = 48
_R_STRING_PIECE: Final = 8_000
# Digits and exponents that R's parser turns into the nearest double without fail.
_R_PLAIN_NUMBER = re.compile(r"(?=(?:\D*\d){1,15}\D*\Z)-?[0-9]+(?:\.[0-9]+)?")
# Of a class file: 65,535 bytes for a constant, up to three for each UTF-16 code unit, and as many
# for the code of a method. An item of a collection takes about twenty.
_SCALA_STRING_PIECE: Final = 10_000
_SCALA_GROUP: Final = 500
_SCALA_JOINED: Final = 50

_R_NAME = re.compile(r"(?:[A-Za-z]|\.(?![0-9]))[A-Za-z0-9._]*")
_R_RESERVED = frozenset(
    [
        "if",
        "else",
        "repeat",
        "while",
        "function",
        "for",
        "next",
        "break",
        "in",
        "TRUE",
        "FALSE",
        "NULL",
        "Inf",
        "NaN",
        "NA",
        "NA_integer_",
        "NA_real_",
        "NA_complex_",
        "NA_character_",
    ]
)
_R_DOTS = re.compile(r"\.\.\.|\.\.[0-9]+")
_SCALA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCALA_RESERVED = frozenset(
    [
        "_",
        "abstract",
        "case",
        "catch",
        "class",
        "def",
        "do",
        "else",
        "enum",
        "export",
        "extends",
        "false",
        "final",
        "finally",
        "for",
        "forSome",
        "given",
        "if",
        "implicit",
        "import",
        "lazy",
        "macro",
        "match",
        "new",
        "null",
        "object",
        "override",
        "package",
        "private",
        "protected",
        "return",
        "sealed",
        "super",
        "then",
        "this",
        "throw",
        "trait",
        "true",
        "try",
        "type",
        "val",
        "var",
        "while",
        "with",
        "yield",
    ]
)


# Their meaning is fixed by what every object of Scala has, or needed by the literals below.
_SCALA_TAKEN = frozenset(
    [
        "asInstanceOf",
        "BigInt",
        "clone",
        "Double",
        "eq",
        "equals",
        "finalize",
        "getClass",
        "hashCode",
        "isInstanceOf",
        "Map",
        "ne",
        "None",
        "notify",
        "notifyAll",
        "scala",
        "Seq",
        "StringBuilder",
        "synchronized",
        "toString",
        "wait",
    ]
)


class ParameterFault(msgspec.Struct, frozen=True):
    """Why one parameter cannot be given to a notebook.

    `name` is the parameter's name as it was sent, `reason` a sentence for its sender.
    """

    name: str
    reason: str


class UnrenderableValueError(ValueError):
    """A value has no literal in the kernel's language."""


def validate_names(
    parameters: Mapping[str, JSON], language: Language = "python"
) -> list[ParameterFault]:
    """Every name that is no plain identifier of `language`, with the reason; empty if none."""
    check = _NAME_CHECKS[language]
    faults = []
    for name in parameters:
        reason = check(name)
        if reason is not None:
            faults.append(ParameterFault(name, reason))
    return faults


def validate(parameters: Mapping[str, JSON], language: Language = "python") -> list[ParameterFault]:
    """Every fault of names and values: what `assignments` would refuse, all at once."""
    faults = validate_names(parameters, language)
    render = _RENDERERS[language]
    for name, value in parameters.items():
        try:
            render(value, 0)
        except UnrenderableValueError as error:
            faults.append(ParameterFault(name, str(error)))
    return faults


def assignments(language: Language, parameters: Mapping[str, JSON]) -> str:
    """Source text that assigns every parameter, in their order; empty when there are none.

    Raises `ValueError` when a name is no identifier and `UnrenderableValueError` (a
    `ValueError`) when a value has no literal: call `validate` first to tell all faults.
    """
    if not parameters:
        return ""
    faults = validate_names(parameters, language)
    if faults:
        message = f"parameter {faults[0].name!r} {faults[0].reason}"
        raise ValueError(message)
    render = _RENDERERS[language]
    header, form = _FORMS[language]
    lines = [form.format(name=name, value=render(value, 0)) for name, value in parameters.items()]
    return "\n".join([header, *lines])


def find_tagged(cells: Sequence[Mapping[str, Any]], tag: str) -> int | None:
    """Index of the first cell carrying `tag`, or None."""
    for index, cell in enumerate(cells):
        metadata = cell.get("metadata")
        tags = metadata.get("tags") if isinstance(metadata, Mapping) else None
        if isinstance(tags, Sequence) and not isinstance(tags, str) and tag in tags:
            return index
    return None


def inject(
    cells: Sequence[Mapping[str, Any]], source: str, *, cell_id: str | None = None
) -> list[dict[str, Any]]:
    """The cells with a code cell of `source`, tagged `injected-parameters`, put in its place.

    An existing injected cell is replaced where it stands (and keeps its id); else the new cell
    follows the first cell tagged `parameters`; with no such tag it comes first. The given cells
    are not changed. With an empty `source` nothing is injected. `cell_id` becomes the cell's
    nbformat id; without it the cell has none. `find_tagged(cells, INJECTED_TAG)` tells where the
    cell is.
    """
    result = [dict(cell) for cell in cells]
    if not source:
        return result
    injected: dict[str, Any] = {
        "cell_type": "code",
        "metadata": {"tags": [INJECTED_TAG]},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }
    if cell_id is not None:
        injected["id"] = cell_id
    existing = find_tagged(result, INJECTED_TAG)
    if existing is not None:
        if "id" in result[existing]:
            injected["id"] = result[existing]["id"]
        result[existing] = injected
        return result
    tagged = find_tagged(result, PARAMETERS_TAG)
    result.insert(0 if tagged is None else tagged + 1, injected)
    return result


def _check_python_name(name: str) -> str | None:
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


def _check_r_name(name: str) -> str | None:
    if not _R_NAME.fullmatch(name) or _R_DOTS.fullmatch(name):
        return "is not an R name of ASCII letters, digits, '.' and '_'"
    if name in _R_RESERVED:
        return "is a reserved word of R"
    return None


def _check_scala_name(name: str) -> str | None:
    if not _SCALA_NAME.fullmatch(name):
        return "is not a Scala identifier of ASCII letters, digits and '_'"
    if name in _SCALA_RESERVED:
        return "is a reserved word of Scala"
    if name in _SCALA_TAKEN:
        return "has a meaning of its own in Scala"
    return None


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        message = f"is nested more than {MAX_DEPTH} deep"
        raise UnrenderableValueError(message)
    return depth + 1


def _items(value: Mapping[Any, JSON]) -> list[tuple[str, JSON]]:
    for key in value:
        if not isinstance(key, str):
            message = "has an object key that is no string"
            raise UnrenderableValueError(message)
    return list(value.items())


def _unknown(value: object) -> UnrenderableValueError:
    return UnrenderableValueError(f"is of type {type(value).__name__}, which is no JSON type")


def _python(value: JSON, depth: int) -> str:
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
        depth = _deeper(depth)
        pairs = (f"{key!r}: {_python(item, depth)}" for key, item in _items(value))
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        depth = _deeper(depth)
        return "[" + ", ".join(_python(item, depth) for item in value) + "]"
    raise _unknown(value)


def _pieces(value: str, size: int) -> list[str]:
    return [value[at : at + size] for at in range(0, len(value), size)] or [""]


def _r_string(value: str) -> str:
    pieces = [_r_piece(piece) for piece in _pieces(value, _R_STRING_PIECE)]
    return pieces[0] if len(pieces) == 1 else f"paste0({', '.join(pieces)})"


def _r_piece(value: str) -> str:
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


def _r_number(value: float) -> str:
    """R's own conversion of decimal digits is not exact; that of hexadecimal ones is."""
    text = repr(value).removesuffix(".0")
    exact = abs(value) <= 2**53 and value.is_integer()
    return text if exact or _R_PLAIN_NUMBER.fullmatch(text) else value.hex()


def _r_integer(value: int) -> str:
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
    return _r_number(float(value))


def _r_deeper(depth: int, brackets: int) -> int:
    if depth + brackets > _R_OPEN_BRACKETS:
        message = "is nested deeper than R can read"
        raise UnrenderableValueError(message)
    return depth + brackets


def _r(value: JSON, depth: int) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return _r_integer(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Inf" if value > 0 else "-Inf"
        return _r_number(value)
    if isinstance(value, str):
        return _r_string(value)
    if isinstance(value, Mapping):
        depth = _r_deeper(depth, 2)
        items = _items(value)
        if not items:
            return "structure(list(), names = character(0))"
        members = ", ".join(_r(item, depth) for _, item in items)
        names = ", ".join(_r_string(key) for key, _ in items)
        # Not list("key" = …): R refuses an empty name there.
        return f"structure(list({members}), names = c({names}))"
    if isinstance(value, list | tuple):
        depth = _r_deeper(depth, 1)
        return "list(" + ", ".join(_r(item, depth) for item in value) + ")"
    raise _unknown(value)


def _scala_string(value: str) -> str:
    pieces = [_scala_piece(piece) for piece in _pieces(value, _SCALA_STRING_PIECE)]
    if len(pieces) == 1:
        return pieces[0]
    # Not joined by `+`: the compiler would make one constant of them.
    return "new StringBuilder()" + "".join(f".append({piece})" for piece in pieces) + ".toString"


def _scala_group(name: str, items: list[tuple[str, int]]) -> tuple[str, int]:
    """A collection of rendered items and its weight, in items.

    What would make a method too large is split into parts: objects, so classes, of their own.
    """
    groups: list[list[str]] = [[]]
    weight = 0
    for text, cost in items:
        if weight + cost > _SCALA_GROUP:
            groups.append([])
            weight = 0
        groups[-1].append(text)
        weight += cost
    parts = [f"{name}({', '.join(group)})" for group in groups]
    if len(parts) == 1:
        return parts[0], weight + 1
    while len(parts) > 1:
        wrapped = [f"{{ object part {{ def items = {part} }}; part.items }}" for part in parts]
        parts = [
            " ++ ".join(wrapped[at : at + _SCALA_JOINED])
            for at in range(0, len(wrapped), _SCALA_JOINED)
        ]
    return f"({parts[0]})", _SCALA_JOINED


def _scala_would_round(items: Sequence[JSON]) -> bool:
    """Whether Scala would make doubles of integers that no double equals: numbers share a type."""
    return any(type(item) is float for item in items) and any(
        type(item) is int and abs(item) > 2**53 for item in items
    )


def _scala_piece(value: str) -> str:
    parts = []
    for character in value:
        code = ord(character)
        if character in _SCALA_ESCAPES:
            parts.append(_SCALA_ESCAPES[character])
        elif 0x20 <= code < 0x7F:
            parts.append(character)
        else:
            units = character.encode("utf-16-be", "surrogatepass").hex()
            parts.extend(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return '"' + "".join(parts) + '"'


# Never as \uXXXX: some Scala versions replace those before they look for the string's end.
_SCALA_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _scala(value: JSON, depth: int) -> str:
    return _scala_weighed(value, depth)[0]


def _scala_weighed(value: JSON, depth: int) -> tuple[str, int]:
    if isinstance(value, Mapping):
        depth = _deeper(depth)
        pairs = []
        for key, item in _items(value):
            text, cost = _scala_weighed(item, depth)
            pairs.append((f"{_scala_string(key)} -> {text}", cost + 2))
        return _scala_group("Map", pairs)
    if isinstance(value, list | tuple):
        depth = _deeper(depth)
        name = "Seq[Any]" if _scala_would_round(value) else "Seq"
        return _scala_group(name, [_scala_weighed(item, depth) for item in value])
    if isinstance(value, str):
        return _scala_string(value), 1 + len(value) // _SCALA_STRING_PIECE
    return _scala_scalar(value), 1


def _scala_scalar(value: JSON) -> str:
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
    raise _unknown(value)


_NAME_CHECKS: Final[Mapping[Language, Callable[[str], str | None]]] = {
    "python": _check_python_name,
    "r": _check_r_name,
    "scala": _check_scala_name,
}
_RENDERERS: Final[Mapping[Language, Callable[[JSON, int], str]]] = {
    "python": _python,
    "r": _r,
    "scala": _scala,
}
_FORMS: Final[Mapping[Language, tuple[str, str]]] = {
    "python": ("# Parameters", "{name} = {value}"),
    "r": ("# Parameters", "{name} <- {value}"),
    "scala": ("// Parameters", "val {name} = {value}"),
}
