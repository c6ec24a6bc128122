"""Reading a filter: a subset of AIP-160, with the place of whatever is wrong.

    expression = factor { AND factor }
    factor     = term { OR term }
    term       = [ NOT | "-" ] ( "(" expression ")" | field operator value )

As AIP-160 has it, OR binds more tightly than AND.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NoReturn, cast
from uuid import UUID

import msgspec

from nbledger_domain.filtering.fields import FIELDS, Field
from nbledger_domain.filtering.terms import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    Not,
    Operator,
    Present,
    Value,
)
from nbledger_domain.words import nearest

MAX_LENGTH: Final = 4000
"""Characters of a filter."""

MAX_CONDITIONS: Final = 100
MAX_DEPTH: Final = 20
MAX_FAULTS: Final = 10

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_WORD: Final = re.compile(r"[^\s()\"'<>=!:,]+")
_TOKEN: Final = re.compile(r"[^\s()]+")
_OPERATOR: Final = re.compile(r"<=|>=|!=|==|=~|=[a-z]+=|[<>=:]")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|' r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
# In the place of a value a colon is part of it, as in a time.
_BARE: Final = re.compile(r"[^\s()\"'<>=!,]+")
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_CONNECTIVES: Final = {"and": "AND", "&&": "AND", "&": "AND", "or": "OR", "||": "OR", "|": "OR"}
_MEANT: Final = {"=ne=": "!=", "=lt=": "<", "=le=": "<=", "=gt=": ">", "=ge=": ">="}


class FilterFault(msgspec.Struct, frozen=True):
    """What is wrong: at which character, counted from 1, with which text, and why."""

    position: int
    text: str
    reason: str

    def __str__(self) -> str:
        """In words."""
        told = f" ({self.text})" if self.text else ""
        return f"at character {self.position}{told}: {self.reason}"


class FilterError(ValueError):
    """The text is no filter."""

    def __init__(self, faults: list[FilterFault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def parse(text: str) -> Filter:
    """The filter that ``text`` says; an empty one lets everything through.

    Raises :class:`FilterError` with every fault up to the first that the rest cannot be read after.
    """
    if len(text) > MAX_LENGTH:
        reason = f"the filter has more than {MAX_LENGTH:,} characters"
        raise FilterError([FilterFault(MAX_LENGTH + 1, "", reason)])
    return _Parser(text).filter()


class Said(msgspec.Struct, frozen=True):
    """A value that a field is compared with, and its place: the character, counted from 1."""

    field: str
    value: Value
    position: int
    text: str


def values_in(text: str) -> list[Said]:
    """All values in a text that :func:`parse` reads."""
    parser = _Parser(text)
    parser.filter()
    return parser.said


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._conditions = 0
        self._faults: list[FilterFault] = []
        self.said: list[Said] = []

    def filter(self) -> Filter:
        self._skip()
        if self._at == len(self._text):
            return EVERYTHING
        found = self._expression()
        if self._at < len(self._text):
            self._unexpected()
        if self._faults:
            raise FilterError(self._faults)
        return found

    def _expression(self) -> Filter:
        return self._joined("AND", lambda: self._joined("OR", self._term, AnyOf), AllOf)

    def _joined(
        self, word: str, part: Callable[[], Filter], kind: type[AllOf] | type[AnyOf]
    ) -> Filter:
        parts = [part()]
        while self._keyword(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _term(self) -> Filter:
        if self._keyword("NOT"):
            return Not(self._simple())
        if self._text.startswith("-", self._at):
            self._at += 1
            return Not(self._simple())
        return self._simple()

    def _simple(self) -> Filter:
        if not self._text.startswith("(", self._at):
            return self._condition()
        opened = self._at
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._stop(opened, "(", f"parentheses are nested more than {MAX_DEPTH} deep")
        self._move(opened + 1)
        found = self._expression()
        if not self._text.startswith(")", self._at):
            if self._at == len(self._text):
                self._stop(opened, "(", "the parenthesis is not closed")
            self._unexpected()
        self._move(self._at + 1)
        self._depth -= 1
        return found

    def _condition(self) -> Filter:
        at = self._at
        word = _WORD.match(self._text, at)
        if word is None:
            self._stop(
                at, self._text[at : at + 1], "a condition is expected, such as status = Error"
            )
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            self._stop(at, word[0], f"there are more than {MAX_CONDITIONS} conditions")
        name = word[0]
        field = FIELDS.get(name)
        if field is None:
            self._unknown(at, name)
        self._move(word.end())
        how = self._operator(name, field)
        return self._compared(field, how)

    def _unknown(self, at: int, name: str) -> None:
        if name in ("AND", "OR", "NOT"):
            self._stop(at, name, "a condition is expected before it")
        if name == "not":
            self._stop(at, name, "is an unknown field; did you mean NOT?")
        near = nearest(name, FIELDS)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(FIELDS)}"
        self._fault(at, name, f"is an unknown field; {hint}")

    def _operator(self, name: str, field: Field | None) -> str:
        at = self._at
        found = _OPERATOR.match(self._text, at)
        allowed = ("=", "!=", ":") if field is None else field.operators
        if found is None:
            self._stop(at, self._word(at), f"one of {' '.join(allowed)} is expected after {name}")
        how = found[0]
        if how not in ("=", "!=", "<", "<=", ">", ">=", ":"):
            meant = _MEANT.get(how, "=")
            self._stop(at, how, f"is an unknown operator; did you mean {meant}?")
        if field is not None and how not in allowed:
            reason = f"{name} has no order; it can be compared by {' '.join(allowed)}"
            self._fault(at, how, reason)
        self._move(found.end())
        return how

    def _compared(self, field: Field | None, how: str) -> Filter:
        at = self._at
        quoted = _QUOTED.match(self._text, at)
        bare = None if quoted else _BARE.match(self._text, at)
        token = quoted or bare
        if token is None:
            if self._text[at : at + 1] in ("'", '"'):
                self._stop(at, self._text[at], "the quotation mark is not closed")
            self._stop(at, self._word(at), "a value is expected")
        self._move(token.end())
        if field is None:
            return EVERYTHING
        if bare and bare[0] == "*" and how == ":":
            return Present(field.name)
        text = bare[0] if bare else _unescaped(token[1] if token[1] is not None else token[2])
        value = self._value(field, at, token[0], text, bare is not None)
        self.said.append(Said(field.name, value, at + 1, token[0]))
        return Comparison(field.name, "=" if how == ":" else cast("Operator", how), value)

    def _value(self, field: Field, at: int, token: str, text: str, bare: bool) -> Value:  # noqa: FBT001
        if bare and "*" in text:
            self._fault(
                at,
                token,
                f"* stands alone after a colon ({field.name}:*); in quotes it is a character",
            )
        elif field.kind == "choice" and text not in field.values:
            near = nearest(text, field.values)
            hint = f"; did you mean {near}?" if near else ""
            self._fault(at, token, f"must be one of {', '.join(field.values)}{hint}")
        elif field.kind == "id":
            return self._id(at, token, text)
        elif field.kind == "time":
            return self._time(at, token, text)
        elif "\x00" in text:
            self._fault(at, token, "has the character U+0000, which no value has")
        return text

    def _id(self, at: int, token: str, text: str) -> Value:
        try:
            found = UUID(text)
        except ValueError:
            found = None
        if found is None or str(found) != text.lower():
            self._fault(at, token, "must be the id of a notebook, a GUID")
            return text
        return found

    def _time(self, at: int, token: str, text: str) -> Value:
        reason = 'must be a time with its zone, such as "2026-11-29T10:30:00Z"'
        if _TIME.fullmatch(text) is None:
            self._fault(at, token, reason)
            return text
        try:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            self._fault(at, token, "is not a valid time")
            return text

    def _keyword(self, word: str) -> bool:
        """Take ``word`` if it comes next."""
        after = self._at + len(word)
        if not self._text.startswith(word, self._at) or _is_word(self._text, after):
            return False
        self._move(after)
        return True

    def _unexpected(self) -> NoReturn:
        """Say what is wrong with what comes where a condition has just ended."""
        at = self._at
        word = self._word(at)
        meant = _CONNECTIVES.get(word.lower())
        if self._text[at] == ")":
            self._stop(at, ")", "there is no parenthesis to close")
        if meant is not None and word != meant:
            self._stop(at, word, f"did you mean {meant}?")
        self._stop(at, word, "AND or OR is expected between conditions")

    def _word(self, at: int) -> str:
        found = _TOKEN.match(self._text, at)
        return found[0][:50] if found else self._text[at : at + 1]

    def _move(self, at: int) -> None:
        self._at = at
        self._skip()

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None  # noqa: S101 (it matches nothing, too)
        self._at = found.end()

    def _fault(self, at: int, text: str, reason: str) -> None:
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(FilterFault(at + 1, text[:50], reason))

    def _stop(self, at: int, text: str, reason: str) -> NoReturn:
        self._fault(at, text, reason)
        raise FilterError(self._faults)


def _is_word(text: str, at: int) -> bool:
    return _WORD.match(text, at) is not None


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
