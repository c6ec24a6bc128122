"""Parameters become literals, never code, and land in the right cell."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.parameters import (
    INJECTED_TAG,
    MAX_DEPTH,
    UnrenderableValueError,
    assignments,
    find_tagged,
    inject,
    validate,
    validate_names,
)

# Every code point, lone surrogates included.
text = st.text(st.characters(exclude_categories=()), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equality that tells 1 from True and 1.0, and -0.0 from 0.0, and knows NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{3,8}_", fullmatch=True), values))
def test_python_evaluates_to_the_values_that_were_sent(parameters: dict[str, Any]) -> None:
    source = assignments("python", parameters)
    namespace: dict[str, Any] = {}
    exec(compile(source.encode("utf-8"), "parameters", "exec"), namespace)  # noqa: S102
    namespace.pop("__builtins__")
    assert same(namespace, parameters)


@given(text)
def test_scala_strings_read_back_by_the_rules_of_java_escapes(value: str) -> None:
    literal = assignments("scala", {"a": value}).removeprefix("// Parameters\nval a = ")
    assert literal.isascii()
    # The escapes used are those that JSON shares with Scala.
    assert json.loads(literal) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("value", "python", "r", "scala"),
    [
        (None, "None", "NULL", "None"),
        (True, "True", "TRUE", "true"),
        (7, "7", "7", "7"),
        (-(2**53) - 2, str(-(2**53) - 2), "-0x1.0000000000001p+53", f"{-(2**53) - 2}L"),
        (2**40, str(2**40), str(2**40), f"{2**40}L"),
        (2**70, str(2**70), "0x1.0000000000000p+70", f'BigInt("{2**70}")'),
        (1.5, "1.5", "1.5", "1.5"),
        (math.inf, "float('inf')", "Inf", "Double.PositiveInfinity"),
        (-math.inf, "float('-inf')", "-Inf", "Double.NegativeInfinity"),
        (math.nan, "float('nan')", "NaN", "Double.NaN"),
        ('a"\\\n', "'a\"\\\\\\n'", '"a\\"\\\\\\U0000000A"', '"a\\"\\\\\\n"'),
        ("é", "'é'", '"\\U000000E9"', '"\\u00e9"'),
        ([1, [None]], "[1, [None]]", "list(1, list(NULL))", "Seq(1, Seq(None))"),
        (
            {"k": 1, "": []},
            "{'k': 1, '': []}",
            'structure(list(1, list()), names = c("k", ""))',
            'Map("k" -> 1, "" -> Seq())',
        ),
        ({}, "{}", "structure(list(), names = character(0))", "Map()"),
    ],
)
def test_literals(value: Any, python: str, r: str, scala: str) -> None:
    assert assignments("python", {"x": value}) == f"# Parameters\nx = {python}"
    assert assignments("r", {"x": value}) == f"# Parameters\nx <- {r}"
    assert assignments("scala", {"x": value}) == f"// Parameters\nval x = {scala}"


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("python", ["", "1a", "a-b", "class", "None", "a b", "x; import os", "ﬁ", "a\n", "\ud800"]),
        ("r", ["", "1a", "a-b", "TRUE", "...", "..1", ".1x", "_a", "é", "a\n"]),
        ("scala", ["", "1a", "a-b", "val", "_", "a$b", "é", "a\n"]),
    ],
)
def test_every_bad_name_is_told(language: Any, names: list[str]) -> None:
    faults = validate_names({"good_name": 1} | dict.fromkeys(names, 1), language)
    assert [fault.name for fault in faults] == names
    assert all(fault.reason for fault in faults)
    with pytest.raises(ValueError, match="parameter"):
        assignments(language, dict.fromkeys(names, 1))


@pytest.mark.parametrize("language", ["python", "r", "scala"])
def test_a_name_with_what_nobody_sees_is_told_by_its_code_point(language: Any) -> None:
    for name, odd in (
        ("a b", "U+0020 (SPACE)"),
        (" a", "U+0020 (SPACE)"),
        ("a\xa0", "U+00A0 (NO-BREAK SPACE)"),
        ("a\u200b", "U+200B (ZERO WIDTH SPACE)"),
        # An identifier of Python, and another one than "a".
        ("a\ufe0f", "U+FE0F (VARIATION SELECTOR-16)"),
        ("a\n", "U+000A (a control character)"),
    ):
        (fault,) = validate_names({name: 1}, language)
        assert fault.reason == f"has {odd}, which no name of a variable may have"


def test_names_that_only_look_reserved_pass() -> None:
    assert validate_names({"match": 1, "type": 1, "größe": 1, "_x": 1}) == []
    assert validate_names({".hidden": 1, "a.b": 1}, "r") == []


def test_values_without_a_literal_are_told_all_at_once() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    faults = validate({"deep": deep, "set": {1}, "keys": {1: 2}, "in": 1})
    assert [fault.name for fault in faults] == ["in", "deep", "set", "keys"]
    faults = validate({"nul": "\0", "half": ["\ud800"], "fine": "x"}, "r")
    assert [fault.name for fault in faults] == ["nul", "half"]
    with pytest.raises(UnrenderableValueError):
        assignments("python", {"deep": deep})


def test_integers_that_r_would_round_are_refused_by_name() -> None:
    exact = {"a": 2**53, "b": -(2**53), "c": 2**60, "d": [2**53 + 2], "e": 10**22, "f": 2**1000}
    assert validate(exact, "r") == []
    rounded = {"a": 2**53 + 1, "b": [{"k": -(2**53) - 1}], "c": 10**23, "d": 2**63 - 1}
    faults = validate({**rounded, "fine": 1}, "r")
    assert [fault.name for fault in faults] == list(rounded)
    assert all("beyond 2^53" in fault.reason for fault in faults)
    for language in ("python", "scala"):
        assert validate(rounded, language) == []
    assert [fault.name for fault in validate({"x": 2**5000}, "scala")] == ["x"]


def test_the_deepest_allowed_value_compiles() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert validate({"deep": deep}) == []
    compile(assignments("python", {"deep": deep}), "parameters", "exec")


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source}


def sources(cells: list[dict[str, Any]]) -> list[str]:
    return [each["source"] for each in cells]


def test_injected_after_the_first_parameters_cell() -> None:
    cells = [cell("a"), cell("b", "parameters"), cell("c", "parameters")]
    result = inject(cells, "x = 1", cell_id="injected")
    assert sources(result) == ["a", "b", "x = 1", "c"]
    assert result[2]["id"] == "injected"
    assert find_tagged(result, INJECTED_TAG) == 2
    assert sources(cells) == ["a", "b", "c"]


def test_injected_first_without_a_tagged_cell() -> None:
    markdown = {"cell_type": "markdown", "source": "# title"}
    assert sources(inject([markdown, cell("a")], "x = 1")) == ["x = 1", "# title", "a"]
    assert sources(inject([], "x = 1")) == ["x = 1"]


def test_an_injected_cell_is_replaced_where_it_stands() -> None:
    old = cell("x = 0", INJECTED_TAG) | {"id": "old"}
    result = inject([cell("p", "parameters"), cell("a"), old, cell("b")], "x = 1", cell_id="new")
    assert sources(result) == ["p", "a", "x = 1", "b"]
    assert result[2]["id"] == "old"


def test_nothing_to_assign_injects_nothing() -> None:
    assert assignments("python", {}) == ""
    assert inject([cell("a")], "") == [cell("a")]
