"""What two states differ in: enough to make one of the other, and nothing that is the same."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.aggregates import AT, a_notebook, an_execution

from nbledger_domain.cells import Cell
from nbledger_domain.histories import FieldChange, differences, state_of
from nbledger_domain.histories.differences import MAX_CHANGES, MAX_VALUE_BYTES
from nbledger_domain.notebook import NotebookChanges

_values = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/~", max_size=3)
_things = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from("abcd"), "x": _values}),
    unique_by=lambda item: item["id"],
    max_size=4,
)
_states = st.dictionaries(
    st.text("ab/~", min_size=1, max_size=2),
    st.recursive(
        _values | st.lists(_values, max_size=3) | _things,
        lambda inner: st.dictionaries(st.text("ab/", min_size=1, max_size=2), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def _fully(field: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in field.split("/")[1:]]


def _keyed(value: Any) -> Any:
    """Lists whose items have ids as objects by these, as changes see them."""
    if isinstance(value, dict):
        return {name: _keyed(each) for name, each in value.items()}
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        first = next(iter(value[0]))
        return {str(each[first]): _keyed(each) for each in value}
    return value


def _applied(before: dict[str, Any], changes: list[FieldChange]) -> dict[str, Any]:
    state: dict[str, Any] = copy.deepcopy(_keyed(before))
    for change in changes:
        *way, name = _fully(change.field)
        place = state
        for part in way:
            place = place[part]
        if change.kind == "removed":
            assert _keyed(change.before) == place.pop(name)
        elif change.kind == "reordered":
            assert sorted(place[name]) == sorted(change.after)
            place[name] = {each: place[name][each] for each in change.after}
        else:
            assert (change.kind == "added") == (name not in place)
            place[name] = _keyed(change.after)
    return state


@pytest.mark.guarantee("G48")
@given(_states, _states)
def test_changes_make_one_state_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    changes = differences(before, after)
    assert changes.omitted == 0
    assert _same(_applied(before, changes.fields), _keyed(after))
    fields = [change.field for change in changes.fields if change.kind != "reordered"]
    assert len(fields) == len(set(fields))


def _same(one: Any, other: Any) -> bool:
    """Equal with the order of items; an empty list of things is no object."""
    return msgspec.json.encode(_plain(one)) == msgspec.json.encode(_plain(other))


def _plain(value: Any) -> Any:
    if value in ([], {}):
        return None
    if isinstance(value, dict):
        return {name: _plain(value[name]) for name in sorted(value)}
    return value


@given(_states)
def test_what_is_the_same_is_no_change(state: dict[str, Any]) -> None:
    assert differences(state, copy.deepcopy(state)).fields == []


def test_true_is_not_one() -> None:
    (change,) = differences({"a": 1}, {"a": True}).fields
    assert (change.before, change.after) == (1, True)


def test_a_new_aggregate_tells_what_it_says() -> None:
    state = state_of(a_notebook([Cell(cell_id="c", cell_type="code", source="x")]))
    told = {change.field: change.after for change in differences(None, state).fields}
    assert told["/name"] == "Process Mining Analysis"
    assert told["/notebookVersion"] == "1.0.0"
    assert told["/cells"][0]["source"] == "x"
    assert not {"/files", "/template", "/uploaded", "/description"} & told.keys()


def test_a_state_is_a_copy() -> None:
    run = an_execution("code")
    before = state_of(run)
    run.claim("w", at=AT)
    assert before["phase"] == "Queued"
    assert state_of(run)["phase"] == "Starting"
    assert state_of(run)["cellStatuses"] == {"cell-001": "Pending"}


def test_large_values_are_told_by_their_parts_and_bounded() -> None:
    cells = [
        Cell(cell_id=f"c{number}", cell_type="code", source="x" * 300)
        for number in range(MAX_CHANGES + 7)
    ]
    notebook = a_notebook()
    before = state_of(notebook)
    notebook.update(NotebookChanges(cells=cells), at=AT)
    changes = differences(before, state_of(notebook))
    assert len(changes.fields) == MAX_CHANGES
    # All cells, the version, and that the notebook has other cells.
    assert changes.omitted == 7 + 1
    assert changes.fields[0].field == "/cells/c0"
    assert len(msgspec.json.encode(changes.fields)) < 2 * MAX_CHANGES * MAX_VALUE_BYTES


@pytest.mark.parametrize("value", ["y" * 5000, ["y"] * 2000, {"a": {"b": "y" * 5000}}])
def test_a_value_that_is_too_large_is_shortened_and_says_so(value: Any) -> None:
    for before, after in (
        ({"v": None}, {"v": value}),
        ({"v": value}, {"v": None}),
        ({}, {"v": value}),
    ):
        (change,) = differences(before, after).fields
        assert change.shortened
        assert len(msgspec.json.encode(change)) < MAX_VALUE_BYTES


def test_of_long_texts_the_part_that_differs_is_shown() -> None:
    text = "line\n" * 4000
    (change,) = differences({"s": text}, {"s": text[:10_000] + "HERE" + text[10_000:]}).fields
    assert change.shortened
    assert "HERE" not in change.before
    assert change.after.index("HERE") == 100
    assert change.shortened.offset == 9_900
    assert (change.shortened.before_bytes, change.shortened.after_bytes) == (24_002, 24_006)


def test_of_items_it_is_told_where_they_are() -> None:
    def told(before: str, after: str) -> list[tuple[str, str]]:
        states = [{"c": [{"id": each} for each in text]} for text in (before, after)]
        return [(each.kind, each.field) for each in differences(*states).fields]

    assert told("ab", "abc") == [("added", "/c/c")]
    assert told("abc", "ac") == [("removed", "/c/b")]
    assert told("ab", "acb") == [("added", "/c/c"), ("reordered", "/c")]
    assert told("abc", "cab") == [("reordered", "/c")]
    assert told("", "ab") == [("added", "/c/a"), ("added", "/c/b")]
