"""The differences of one run from another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution, PlannedCell, RunOptions
from nbledger_domain.input_files import InputFile
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_projections.read_models.executions.repetitions.differences import (
    RunFacts,
    cells_change,
    differences,
    members_change,
    same,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)
MEMBERS = st.dictionaries(st.sampled_from("abcd"), VALUES)


def cell(cell_id: str, source: str = "1", **members: Any) -> Cell:
    return Cell(cell_id=cell_id, cell_type="code", source=source, **members)


def notebook() -> Notebook:
    file = InputFile(path="a.csv", content_type="text/csv", digest="1" * 64, size=1)
    return Notebook.create(
        UUID(int=9),
        name="N",
        description="",
        kernel_type="python3",
        integration=Integration(),
        environment=Environment(packages=["polars"]),
        cells=[cell("a"), cell("b"), cell("c")],
        created_by="ann",
        at=AT,
        files=[file],
    )


def facts(of: Notebook, **members: Any) -> RunFacts:
    told = {"packages": [], "language": "python", "language_version": "3.12", "datasets": {}}
    parameters = members.pop("parameters", {})
    options = members.pop("options", RunOptions(timeout=60))
    run = Execution.request(
        UUID(int=8),
        notebook_id=of.id,
        notebook_version=of.notebook_version,
        notebook_stream_version=of.version,
        kernel_type=of.kernel_type,
        cells=[PlannedCell(each.cell_id, each.cell_type) for each in of.cells],
        parameters=parameters,
        options=options,
        requested_by="ann",
        at=AT,
    )
    return RunFacts(execution=run, notebook=of, **{**told, **members})


def test_runs_that_are_alike_do_not_differ() -> None:
    found = differences(facts(notebook()), facts(notebook()))
    assert (found.differs, found.unknown) == ([], [])


def test_each_subject_is_told() -> None:
    changed = notebook()
    changed.update(
        NotebookChanges(
            cells=[cell("b"), cell("a", "2", metadata={"tags": ["x"]}), cell("d")],
            environment=Environment(packages=["polars", "scipy"]),
        ),
        at=AT,
    )
    changed.remove_file("a.csv", at=AT)
    found = differences(
        facts(
            notebook(),
            parameters={"n": 1, "old": 2},
            datasets={A: 1, B: 2},
            packages=["polars==1.0"],
        ),
        facts(
            changed,
            parameters={"n": 1.0, "new": None},
            datasets={A: 1, B: 3, C: 1},
            packages=["polars==1.1", "scipy==1.0"],
            language_version="3.13",
            options=RunOptions(timeout=60, priority="High"),
        ),
    )
    assert found.differs == [
        "notebook",
        "parameters",
        "options",
        "datasets",
        "environment",
        "kernel",
        "inputFiles",
    ]
    told = msgspec.to_builtins(found)
    assert told["notebook"]["cells"] == {
        "added": ["d"],
        "removed": ["c"],
        "changed": [{"cellId": "a", "parts": ["source", "metadata"]}],
        "reordered": True,
    }
    assert told["parameters"] == {
        "added": {"new": None},
        "removed": {"old": 2},
        "changed": {"n": {"before": 1, "after": 1.0}},
    }
    assert told["options"]["changed"] == {"priority": {"before": "Normal", "after": "High"}}
    assert [(each["before"], each["after"], each["changed"]) for each in told["datasets"]] == [
        (1, 1, False),
        (2, 3, True),
        (None, 1, True),
    ]
    assert told["environment"]["provided"] == {
        "added": {"scipy": "1.0"},
        "removed": {},
        "changed": {"polars": {"before": "1.0", "after": "1.1"}},
    }
    assert told["kernel"]["languageVersion"] == {"before": "3.12", "after": "3.13"}
    assert told["inputFiles"]["removed"] == {"a.csv": "1" * 64}


def test_what_is_not_known_is_told_as_that() -> None:
    nothing = {"packages": None, "language": None, "language_version": None}
    found = differences(
        facts(notebook(), datasets={A: 1, B: None}),
        facts(notebook(), datasets={A: None, B: None}, **nothing),
    )
    assert (found.differs, found.unknown) == ([], ["datasets", "environment", "kernel"])
    assert [each.changed for each in found.datasets] == [None, None]
    assert found.environment.provided is None
    unstarted = differences(facts(notebook(), datasets={A: 1}), facts(notebook(), datasets=None))
    assert [each.changed for each in unstarted.datasets] == [None]


@settings(max_examples=50)
@given(VALUES, VALUES)
def test_values_are_the_same_where_their_json_is(one: Any, other: Any) -> None:
    def written(value: Any) -> bytes:
        return msgspec.json.encode(value, order="sorted")

    assert same(one, one)
    assert same(one, other) is same(other, one)
    # -0.0 is 0.0 to all but its text.
    if b"-0.0" not in written(one) + written(other):
        assert same(one, other) is (written(one) == written(other))


@settings(max_examples=50)
@given(MEMBERS, MEMBERS)
def test_changes_of_members_lead_from_one_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    change = members_change(before, after)
    made = {name: value for name, value in before.items() if name not in change.removed}
    made |= change.added
    made |= {name: each.after for name, each in change.changed.items()}
    assert same(made, after)
    assert bool(change) is not same(before, after)


ORDERS = st.lists(st.sampled_from("abcde"), unique=True)


@given(ORDERS, ORDERS)
def test_cells_that_both_have_are_compared_by_their_order(
    before: list[str], after: list[str]
) -> None:
    change = cells_change([cell(each) for each in before], [cell(each) for each in after])
    assert set(change.added) == set(after) - set(before)
    assert set(change.removed) == set(before) - set(after)
    assert change.changed == []
    both = [each for each in before if each in after]
    assert change.reordered is (both != [each for each in after if each in before])
