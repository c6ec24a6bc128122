"""What a filter is made of, what it says of an execution, and how it is written."""

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from types import UnionType
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from nbledger_domain.filtering.fields import FIELDS, Facts

Operator = Literal["=", "!=", "<", "<=", ">", ">="]

Value = str | UUID | datetime


class Comparison(msgspec.Struct, frozen=True):
    """A field compared with a value of its kind.

    A field that the execution does not have equals nothing, and is neither less nor more.
    """

    field: str
    operator: Operator
    value: Value


class Present(msgspec.Struct, frozen=True):
    """That the execution has the field at all."""

    field: str


class Not(msgspec.Struct, frozen=True):
    """The opposite."""

    operand: "Filter"


class AllOf(msgspec.Struct, frozen=True):
    """Every one of the operands; of none, anything."""

    operands: "tuple[Filter, ...]"


class AnyOf(msgspec.Struct, frozen=True):
    """At least one of the operands."""

    operands: "tuple[Filter, ...]"


Filter = Comparison | Present | Not | AllOf | AnyOf

EVERYTHING: Final = AllOf(())

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(wanted: Filter, facts: Facts) -> bool:
    """Whether an execution is as the filter says."""
    match wanted:
        case AllOf(operands):
            return all(matches(each, facts) for each in operands)
        case AnyOf(operands):
            return any(matches(each, facts) for each in operands)
        case Not(operand):
            return not matches(operand, facts)
        case Present(name):
            return _of(facts, name) not in (None, ())
        case Comparison(name, how, value):
            return _compared(_of(facts, name), how, value)


def _of(facts: Facts, name: str) -> Any:
    return getattr(facts, FIELDS[name].attribute)


def _compared(found: Any, how: Operator, value: Value) -> bool:
    if how in ("=", "!="):
        equal = value in found if isinstance(found, tuple) else found == value
        return equal is (how == "=")
    return found is not None and _COMPARE[how](found, value)


def printed(wanted: Filter) -> str:
    """The filter as a text that reads as the very same.

    It has no parentheses that are not needed, as only so many may be nested in a text.
    """
    match wanted:
        case AllOf(operands):
            return " AND ".join(_operand(each, AllOf) for each in operands)
        case AnyOf(operands):
            return " OR ".join(_operand(each, AllOf | AnyOf) for each in operands)
        case Not(operand):
            text = printed(operand)
            return f"NOT {text}" if isinstance(operand, Comparison | Present) else f"NOT ({text})"
        case Present(name):
            return f"{name}:*"
        case Comparison(name, how, value):
            return f"{name} {how} {_value(value, FIELDS[name].kind)}"


def _operand(wanted: Filter, enclosed: type[AllOf] | UnionType) -> str:
    text = printed(wanted)
    return f"({text})" if isinstance(wanted, enclosed) else text


def _value(value: Value, kind: str) -> str:
    if isinstance(value, datetime):
        return f'"{value.isoformat().replace("+00:00", "Z")}"'
    if kind != "text":
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
