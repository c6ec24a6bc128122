"""Which names a cell sets, by language."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbledger_domain.cells import Cell
from nbledger_domain.parameter_names import MAX_SOURCE, names_set
from nbledger_domain.parameters import assignments, validate_names
from nbledger_http.requests.parameter_advice import advice, as_warnings

PYTHON = """
%load_ext autoreload
# beta = 1
alpha = 1  # the rate
typed: dict[str, int] = {"delta": 1}
first, (second, *rest) = 1, (2, 3)
import os.path, numpy as np
from datetime import date
if alpha == 2:
    inner = call(keyword=5)
for loop in []: pass
with open("x") as handle: pass
def function(argument): local = 1
class Kind: member = 1
chained = other = "zeta = 1"
declared: int
augmented += 1
obj.attribute = things[0] = 3
(walrus := 5)
files?
!ls
"""


def test_python_is_read_by_its_compiler() -> None:
    assert set(names_set(PYTHON, "python")) == {
        "alpha", "typed", "first", "second", "rest", "os", "np", "date", "inner", "loop", "handle",
        "function", "Kind", "chained", "other", "augmented", "walrus", "declared",
    }  # fmt: skip


def test_what_does_not_compile_is_read_by_lines() -> None:
    source = "files = !ls\nalpha: int = 1\n  if x == 1 {\n beta= 'gamma=1'\ntotal += 1\nx <= 3"
    assert names_set(source, "python") == ["files", "alpha", "beta"]
    for odd in ("\0", "(" * 10_000, "-" * 50_000 + "1", "x = '\ud800'", "a" * (MAX_SOURCE + 1)):
        assert isinstance(names_set(odd, "python"), list)
    assert names_set("x = '\ud800'", "python") == ["x"]


def test_r_and_scala_are_read_by_lines() -> None:
    r = "alpha <- 1\nbeta=2 # x\n  .g.d <<- 3\n`odd name` <- 4\nf(x = 2)\n# no <- 1\nT -> u"
    assert names_set(r, "r") == ["alpha", "beta", ".g.d", "odd name"]
    scala = (
        "val alpha = 1\nvar beta: Int = 2\n  final val c = 3\n// val d = 4\ndef e = 5\nvalue = 6"
    )
    assert names_set(scala, "scala") == ["alpha", "beta", "c"]


@pytest.mark.parametrize("language", ["python", "r", "scala"])
@settings(max_examples=30)
@given(names=st.lists(st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,9}", fullmatch=True), unique=True))
def test_what_we_assign_is_found_again(language: Any, names: list[str]) -> None:
    names = [name for name in names if not validate_names({name: 1}, language)]
    source = assignments(language, dict.fromkeys(names, "x = 1\ny <- 2\nval z = 3"))
    assert sorted(names_set(source, language)) == sorted(names)


def code(source: str, *tags: str, cell_type: Any = "code") -> Cell:
    return Cell(cell_id="c", cell_type=cell_type, source=source, metadata={"tags": list(tags)})


def said(cells: list[Cell], *names: str, language: Any = "python") -> list[str]:
    return as_warnings(advice(cells, cells, dict.fromkeys(names, 1), language))


def test_a_name_that_the_cell_of_parameters_does_not_set_is_told() -> None:
    cells = [code("x = 1"), code("alpha = 1\nbeta = 2", "parameters"), code("print(alpha)")]
    assert said(cells, "alpha", "beta") == []
    assert said(cells) == []
    assert said(cells, "alhpa", "x", "be/ta") == [
        "/parameters/alhpa: the cell tagged 'parameters' does not set it; did you mean alpha?",
        "/parameters/x: the cell tagged 'parameters' does not set it; it sets alpha, beta",
        "/parameters/be~1ta: the cell tagged 'parameters' does not set it; did you mean beta?",
    ]
    assert said([code("# none yet", "parameters")], "a") == [
        "/parameters/a: the cell tagged 'parameters' does not set it; it sets nothing"
    ]
    assert said(cells, "anything", language=None) == []


def test_a_notebook_without_a_cell_of_parameters_is_told() -> None:
    place = "/parameters: no cell is tagged 'parameters'; they are set before the first cell"
    cells = [code("x = 1", cell_type="markdown"), code("print(x)")]
    assert said(cells, "x") == [place]
    assert said([*cells, code("x=1\nprint(x)")], "x", "zzz") == [
        f"{place}. The notebook then sets x itself, and that value counts"
    ]
    assert said([code("x = y = 1")], "y", "z", "x") == [
        f"{place}. The notebook then sets y, x itself, and those values count"
    ]
    # One that was run elsewhere has its place for them.
    assert said([code("x = 1"), code("x = 2", "injected-parameters")], "x") == []
