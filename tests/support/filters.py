"""Filters of executions to draw, and executions that they are tried on."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from nbledger_domain.filtering import FIELDS, AllOf, AnyOf, Comparison, Filter, Not, Present
from nbledger_domain.filtering.fields import Field

START = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
NOTEBOOKS = [uuid.UUID(int=number + 1) for number in range(4)]
PEOPLE = ["ann", 'bob "the" builder', "o'neill \\ sons", "ünïcødé\n*"]
TAGS = ["nightly", "a b", "AND", 'quoted "x"', "tail\\", "(", "-1", "*", "🦊"]
VALUES: dict[str, list[Any]] = {"notebook": NOTEBOOKS, "requestedBy": PEOPLE, "tag": TAGS}


def _values(field: Field) -> st.SearchStrategy[Any]:
    if field.kind == "time":
        return st.integers(0, 400).map(lambda number: START + timedelta(milliseconds=250 * number))
    return st.sampled_from(list(field.values) or VALUES[field.name])


def _comparisons(field: Field) -> st.SearchStrategy[Filter]:
    operators = [each for each in field.operators if each != ":"]
    return st.builds(Comparison, st.just(field.name), st.sampled_from(operators), _values(field))


conditions: st.SearchStrategy[Filter] = st.one_of(
    *(_comparisons(field) for field in FIELDS.values()),
    st.sampled_from([name for name, field in FIELDS.items() if field.optional]).map(Present),
)

filters: st.SearchStrategy[Filter] = st.recursive(
    conditions,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: AllOf(tuple(some))),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: AnyOf(tuple(some))),
    ),
    max_leaves=8,
)
