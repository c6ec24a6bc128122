"""Parameters that a cell of Scala declares: its ``val`` and ``var``, with their literals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET

from nbledger_domain.parameters.declared import Declared, JsonType, declared
from nbledger_domain.parameters.statements import Lexis, items, statements

_LEXIS: Final = Lexis(
    re.compile(
        r"""(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))
        |(?P<text>\"{3}.*?(?:\"{3,}|\Z)|"(?:[^"\\\n]|\\(?:.|\Z))*(?:"|(?=\n)|\Z)
            |'(?:[^'\\\n]|\\.[^'\n]{0,4})')
        |(?P<open>[\[({])|(?P<close>[\])}])|(?P<end>[\n;])|(?P<blank>[ \t\r]+)
        |(?P<other>\w+|.)""",
        re.VERBOSE | re.DOTALL,
    ),
    frozenset([*"-+*/^,|&<>=~!%.:", "else", "extends", "with"]),
)
_ASSIGNMENT = re.compile(
    r"(?:(?:final|implicit|lazy|private)\s+)*va[lr]\s+([A-Za-z_]\w*)\s*"
    r"(?::([^=\n]{1,500}))?=(?!>)\s*(.+)\Z",
    re.DOTALL,
)
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,16}|\d{1,19})[lL]?\Z")
_DOUBLE = re.compile(r"-?(?:\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\d+(?=[dDfF]))[dDfF]?\Z")
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"\Z')
_RAW = re.compile(r'"""((?:(?!""").)*)"""\Z', re.DOTALL)
_ESCAPE = re.compile(r"""\\(?:([nrtbf\\"'])|u+([0-9a-fA-F]{4})|(.))""")
_PLAIN: Final = dict(zip("nrtbf\\\"'", "\n\r\t\b\f\\\"'", strict=True))
_WORDS: Final = {"true": True, "false": False, "None": None, "null": None}
_COLLECTION = re.compile(r"(?:Seq|List|Vector|Array)\s*(?:\[[^\]()]*\]\s*)?\((.*)\)\Z", re.DOTALL)

_TYPES: Final[Mapping[str, JsonType]] = {
    "String": "string",
    "Boolean": "boolean",
    **dict.fromkeys(("Int", "Long", "Short", "Byte", "BigInt"), "integer"),
    **dict.fromkeys(("Double", "Float", "BigDecimal"), "number"),
    **dict.fromkeys(("Seq", "List", "Vector", "Array", "Set", "IndexedSeq"), "array"),
    "Map": "object",
}
_TYPE = re.compile(r"(\w+)\s*(?:\[(.*)\])?\Z", re.DOTALL)


def declarations(source: str) -> list[Declared]:
    """The parameters that the top level of ``source`` sets."""
    found: dict[str, Declared] = {}
    for statement in statements(source, _LEXIS):
        assigned = _ASSIGNMENT.match(statement.code)
        if assigned is None:
            continue
        name, value = assigned[1], assigned[3].strip()
        named = assigned[2].strip() if assigned[2] else None
        found[name] = declared(
            name,
            types=None if named is None else _types(named),
            declared_type=named,
            default=_literal(value),
            default_source=value,
            help=statement.comment.strip("/* \t\n"),
        )
    return list(found.values())


def _types(named: str) -> list[JsonType]:
    found = _TYPE.match(named)
    if found is None:
        return []
    if found[1] == "Option" and found[2]:
        inner = _types(found[2].strip())
        return [*inner, "null"] if inner else []
    known = _TYPES.get(found[1])
    return [] if known is None else [known]


def _literal(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text) is not None:
        return int(text.rstrip("lL"), 16 if "x" in text.lower() else 10)
    if _DOUBLE.match(text) is not None:
        value = float(text.rstrip("dDfF"))
        return value if math.isfinite(value) else UNSET
    if (raw := _RAW.match(text)) is not None:
        return raw[1]
    if (string := _STRING.match(text)) is not None:
        return _text(string[1])
    if (collection := _COLLECTION.match(text)) is not None:
        return _collection(collection[1])
    return UNSET


def _text(body: str) -> Any:
    parts: list[str] = []
    at = 0
    for escape in _ESCAPE.finditer(body):
        parts.append(body[at : escape.start()])
        at = escape.end()
        plain, code, unknown = escape.groups()
        if unknown is not None:
            return UNSET
        parts.append(_PLAIN[plain] if code is None else chr(int(code, 16)))
    units = "".join([*parts, body[at:]]).encode("utf-16-le", "surrogatepass")
    try:
        # Two escapes are one character where it is beyond the first 65,536.
        return units.decode("utf-16-le")
    except UnicodeDecodeError:
        return UNSET


def _collection(text: str) -> Any:
    each = items(text, _LEXIS)
    if each is None:
        return UNSET
    found = [_literal(item) for item in each]
    return UNSET if any(item is UNSET or isinstance(item, list) for item in found) else found
