"""Statements of R and Scala as far as they can be told apart without a parser of the language."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

_NEXT_LINE = re.compile(r"[ \t\n]{0,200}\.[A-Za-z]")


class Statement(msgspec.Struct, frozen=True):
    """A statement of the top level without its comments, and the comment beside its end."""

    code: str
    comment: str


class Lexis(msgspec.Struct, frozen=True):
    """How a language writes its tokens.

    ``tokens`` matches one token at any place, with a group named ``comment``, ``text``, ``open``,
    ``close``, ``end``, ``blank`` or ``other``. A line that ends with one of ``unfinished`` goes on
    in the next one.
    """

    tokens: re.Pattern[str]
    unfinished: frozenset[str]


def statements(source: str, lexis: Lexis) -> Iterator[Statement]:
    """The statements of the top level, in order."""
    parts: list[str] = []
    comment, last, depth = "", "", 0
    for token in lexis.tokens.finditer(source):
        kind, text = token.lastgroup, token[0]
        if kind == "comment":
            comment = text if depth == 0 and last else comment
            continue
        if kind == "end" and depth == 0:
            if text == "\n" and last and _goes_on(source, token.end(), last, lexis):
                parts.append(" ")
                continue
            if last:
                # What is beside a line belongs to the last statement of it.
                yield Statement("".join(parts).strip(), comment if text == "\n" else "")
            parts, comment, last = [], "", ""
            continue
        depth = max(0, depth + {"open": 1, "close": -1}.get(kind or "", 0))
        parts.append(text)
        last = last if kind == "blank" else text
    if last:
        yield Statement("".join(parts).strip(), comment)


def items(text: str, lexis: Lexis) -> list[str] | None:
    """What commas divide a text into; ``None`` where there are brackets in it."""
    found: list[list[str]] = [[]]
    for token in lexis.tokens.finditer(text):
        if token.lastgroup in ("open", "close"):
            return None
        if token[0] == ",":
            found.append([])
        else:
            found[-1].append(token[0])
    each = ["".join(parts).strip() for parts in found]
    return [] if each == [""] else each


def _goes_on(source: str, at: int, last: str, lexis: Lexis) -> bool:
    return last in lexis.unfinished or _NEXT_LINE.match(source, at) is not None
