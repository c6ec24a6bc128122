"""A filter of executions as SQL: as a condition of rows, and as ways to come to few of them.

Values are always parameters; what is put into a statement is of this module alone.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from nbledger_domain.filtering import AllOf, AnyOf, Comparison, Filter, Not, Present
from nbledger_domain.filtering.terms import Operator
from nbledger_projections.read_models.executions.listed import LIST, TAGS

COLUMNS: Final = {
    "status": "status",
    "phase": "phase",
    "terminationCode": "termination_code",
    "tag": "tags",
    "notebook": "notebook_id",
    "requestedBy": "requested_by",
    "cause": "cause",
    "requested": "requested_at",
    "started": "started_at",
    "ended": "ended_at",
}
"""The column of each field."""

MOST_SCANS: Final = 16
"""Beyond so many alternatives it is better to go through all rows."""

CLOCKS_APART: Final = timedelta(hours=1)
"""By so much the clock of a worker may be behind that of who took the request."""

_OPPOSITE: Final[dict[Operator, Operator]] = {
    "=": "!=",
    "!=": "=",
    "<": ">=",
    "<=": ">",
    ">": "<=",
    ">=": "<",
}
_SCANNED: Final = ("notebook", "tag", "requestedBy", "phase", "terminationCode", "cause", "status")
"""Fields with an index in the order of the list; those first of which a value has fewer rows."""

_TIMES: Final = ("requested", "started", "ended")


class Parameters:
    """The parameters of a statement, in order."""

    def __init__(self, *values: Any) -> None:
        self.values: list[Any] = list(values)

    def add(self, value: Any) -> str:
        """How the statement refers to ``value``."""
        self.values.append(value)
        return f"${len(self.values)}"


class Scan(msgspec.Struct, frozen=True):
    """The rows with one value of a field, which an index has in the order of the list."""

    field: str
    value: str | UUID

    @property
    def table(self) -> str:
        """Where they are."""
        return TAGS if self.field == "tag" else LIST

    def condition(self, parameters: Parameters) -> str:
        """What picks them."""
        column = "tag" if self.field == "tag" else COLUMNS[self.field]
        return f"{column} = {parameters.add(self.value)}"


Way = tuple[Scan, ...]
"""Scans that together have every row that a filter lets through; none: all rows."""


def condition(wanted: Filter, parameters: Parameters, row: str) -> str:
    """What is true of a ``row`` of the list that the filter lets through."""
    return _condition(normal(wanted), parameters, row)


def normal(wanted: Filter, *, negated: bool = False) -> Filter:
    """The same filter with ``Not`` in front of :class:`Present` alone, and nothing nested alike.

    A comparison of a time is then one that the execution has: its opposite says besides that it
    may have none.
    """
    match wanted:
        case Not(operand):
            return normal(operand, negated=not negated)
        case AllOf(operands):
            return _joined(AnyOf if negated else AllOf, operands, negated=negated)
        case AnyOf(operands):
            return _joined(AllOf if negated else AnyOf, operands, negated=negated)
        case Present():
            return Not(wanted) if negated else wanted
        case Comparison(name, how, value) if negated:
            opposite = Comparison(name, _OPPOSITE[how], value)
            if name == "requested" or how in ("=", "!="):
                return opposite
            return AnyOf((opposite, Not(Present(name))))
        case Comparison():
            return wanted


def _joined(
    kind: type[AllOf] | type[AnyOf], operands: Iterable[Filter], *, negated: bool
) -> Filter:
    parts: list[Filter] = []
    for operand in operands:
        found = normal(operand, negated=negated)
        parts.extend(found.operands if isinstance(found, kind) else (found,))
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _condition(wanted: Filter, parameters: Parameters, row: str) -> str:
    match wanted:
        case AllOf(operands) | AnyOf(operands):
            both = isinstance(wanted, AllOf)
            if not operands:
                return "true" if both else "false"
            parts = [_condition(each, parameters, row) for each in operands]
            return f"({(' AND ' if both else ' OR ').join(parts)})"
        case Not(Present(name)):
            return f"NOT {_present(name, row)}"
        case Present(name):
            return _present(name, row)
        case Comparison(name, how, value):
            return _comparison(name, how, parameters.add(value), row)
        case _:
            raise AssertionError("not normal")


def _present(name: str, row: str) -> str:
    column = f"{row}.{COLUMNS[name]}"
    return f"({column} <> '{{}}')" if name == "tag" else f"({column} IS NOT NULL)"


def _comparison(name: str, how: Operator, value: str, row: str) -> str:
    column = f"{row}.{COLUMNS[name]}"
    if name == "tag":
        return (
            f"({value} {'=' if how == '=' else '<>'} {'ANY' if how == '=' else 'ALL'} ({column}))"
        )
    if how == "!=":
        return f"({column} IS DISTINCT FROM {value})"
    return f"({column} {how} {value})"


def conjuncts(wanted: Filter) -> tuple[Filter, ...]:
    """What has to be true, each of its own."""
    found = normal(wanted)
    return found.operands if isinstance(found, AllOf) else (found,)


def ways(wanted: Filter) -> list[Way]:
    """The ways to come to the rows of a filter, likely the shortest first; at least one."""
    found = [scans for each in conjuncts(wanted) if (scans := _scans(each)) is not None]
    distinct = dict.fromkeys(found)
    return sorted(distinct, key=_rank) or [()]


def _scans(wanted: Filter) -> Way | None:
    """Scans that have every row of a part of a filter, if there are such."""
    match wanted:
        case Comparison(name, "=", value) if name in _SCANNED and not isinstance(value, datetime):
            return (Scan(name, value),)
        case AnyOf(operands) if operands:
            found: list[Scan] = []
            for operand in operands:
                scans = _scans(operand)
                if scans is None:
                    return None
                found.extend(scans)
            distinct = tuple(dict.fromkeys(found))
            return distinct if len(distinct) <= MOST_SCANS else None
        case AllOf(operands):
            each = [scans for operand in operands if (scans := _scans(operand)) is not None]
            return min(each, key=_rank, default=None)
        case _:
            return None


def _rank(way: Way) -> int:
    return max(_SCANNED.index(scan.field) for scan in way)


Bound = Callable[[Parameters], str]
"""Makes a condition on ``requested_at``, by which every scan of the list can begin or end."""


def bounds(wanted: Filter) -> list[Bound]:
    """What follows from the filter for when its executions were requested."""
    return [
        _bound(each.operator, each.value)
        if each.field == "requested"
        # What has begun or ended by then was requested before.
        else _bound("<=", _later(each.value))
        for each in conjuncts(wanted)
        if isinstance(each, Comparison)
        and isinstance(each.value, datetime)
        and each.operator != "!="
        and (each.field == "requested" or each.operator in ("<", "<=", "="))
    ]


def _later(at: datetime) -> datetime:
    try:
        return at + CLOCKS_APART
    except OverflowError:
        return at


def _bound(how: Operator, at: datetime) -> Bound:
    return lambda parameters: f"requested_at {how} {parameters.add(at)}"


def windows(wanted: Filter) -> dict[str, Sequence[Comparison]]:
    """Of ``started`` and ``ended`` what the filter demands of it, where it says since when."""
    found: dict[str, list[Comparison]] = {}
    for each in conjuncts(wanted):
        if (
            isinstance(each, Comparison)
            and each.field in ("started", "ended")
            and each.operator != "!="
        ):
            found.setdefault(each.field, []).append(each)
    return {
        name: told
        for name, told in found.items()
        if any(each.operator in ("=", ">", ">=") for each in told)
    }
