"""Parameters that a cell of R declares: assignments at its top level, with their literals."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from msgspec import UNSET

from nbledger_domain.parameters.declared import Declared, declared
from nbledger_domain.parameters.statements import Lexis, items, statements

_LEXIS: Final = Lexis(
    re.compile(
        r"""(?P<comment>\#[^\n]*)
        |(?P<text>[rR](?:"\(.*?(?:\)"|\Z)|'\(.*?(?:\)'|\Z)|"\[.*?(?:\]"|\Z)|"\{.*?(?:\}"|\Z))
            |"(?:[^"\\]|\\(?:.|\Z))*(?:"|\Z)|'(?:[^'\\]|\\(?:.|\Z))*(?:'|\Z)|`[^`]*(?:`|\Z))
        |(?P<open>[\[({])|(?P<close>[\])}])|(?P<end>[\n;])|(?P<blank>[ \t\r]+)
        |(?P<other>[\w.]+|.)""",
        re.VERBOSE | re.DOTALL,
    ),
    frozenset("-+*/^,|&<>=~!%$@"),
)
_ASSIGNMENT = re.compile(
    r"(?:`([^`\n]+)`|((?:[A-Za-z]|\.(?![0-9]))[\w.]*))\s*(?:<<?-|=(?!=))\s*(.+)\Z", re.DOTALL
)
_NUMBER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]{1,15}|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)L?\Z")
_STRING = re.compile(r"""(["'])((?:[^"'\\\n]|\n|(?!\1)["']|\\.)*)\1\Z""", re.DOTALL)
_ESCAPE = re.compile(
    r"""\\(?:([nrtabfv0\\"'`\n])|x([0-9a-fA-F]{1,2})|u\{([0-9a-fA-F]{1,4})\}|u([0-9a-fA-F]{1,4})"""
    r"""|U\{([0-9a-fA-F]{1,8})\}|U([0-9a-fA-F]{1,8})|(.))""",
    re.DOTALL,
)
_PLAIN: Final = dict(zip("nrtabfv\\\"'`\n", "\n\r\t\a\b\f\v\\\"'`\n", strict=True))
_WORDS: Final = {"TRUE": True, "FALSE": False, "NULL": None}
_VECTOR = re.compile(r"c\s*\((.*)\)\Z", re.DOTALL)


def declarations(source: str) -> list[Declared]:
    """The parameters that the top level of ``source`` assigns."""
    found: dict[str, Declared] = {}
    for statement in statements(source, _LEXIS):
        assigned = _ASSIGNMENT.match(statement.code)
        if assigned is None:
            continue
        name, value = assigned[1] or assigned[2], assigned[3].strip()
        default = _literal(value)
        found[name] = declared(
            name,
            # A vector stands for one of one item, and for a list.
            types=() if isinstance(default, list) else None,
            default=default,
            default_source=value,
            help=statement.comment.lstrip("#").strip(),
        )
    return list(found.values())


def _literal(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.match(text) is not None:
        return _number(text)
    if (string := _STRING.match(text)) is not None:
        return _text(string[2])
    if (vector := _VECTOR.match(text)) is not None:
        return _vector(vector[1])
    return UNSET


def _number(text: str) -> Any:
    whole = text.endswith("L")
    digits = text.rstrip("L")
    if "x" in digits.lower():
        return int(digits, 16)
    value = float(digits)
    if not math.isfinite(value):
        return UNSET
    # R's plain numbers are doubles, which read as whole numbers where they are written so.
    plain = re.fullmatch(r"[-+]?\d{1,15}", digits) is not None
    return int(value) if plain or (whole and value.is_integer()) else value


def _text(body: str) -> Any:
    parts: list[str] = []
    at = 0
    for escape in _ESCAPE.finditer(body):
        parts.append(body[at : escape.start()])
        at = escape.end()
        plain, *codes, unknown = escape.groups()
        code = next((int(each, 16) for each in codes if each is not None), None)
        if unknown is not None or plain == "0" or code == 0:
            return UNSET
        if code is not None and (code > 0x10FFFF or 0xD800 <= code <= 0xDFFF):
            return UNSET
        parts.append(_PLAIN[plain] if code is None else chr(code))
    return "".join([*parts, body[at:]])


def _vector(text: str) -> Any:
    """The items of a vector without names; of several kinds R would make one of them."""
    found: list[Any] = []
    for item in items(text, _LEXIS) or ():
        value = _literal(item)
        if value is UNSET or value is None or isinstance(value, list):
            return UNSET
        found.append(value)
    kinds = {bool if isinstance(v, bool) else str if isinstance(v, str) else float for v in found}
    return found if found and len(kinds) == 1 else UNSET
