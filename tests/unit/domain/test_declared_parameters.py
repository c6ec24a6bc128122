"""What cells declare of parameters, by language; nothing of them is run."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from nbledger_domain.cells import Cell
from nbledger_domain.parameter_names import MAX_SOURCE
from nbledger_domain.parameters import assignments, validate
from nbledger_domain.parameters.declarations import declared_in, parameters_cell
from nbledger_domain.parameters.declared import MAX_DECLARED, Declared
from nbledger_http.requests.parameter_advice import advice, as_warnings

LANGUAGES = ("python", "r", "scala")


def told(source: str, language: Any = "python") -> dict[str, tuple[Any, ...]]:
    """Types, declared type, default, its source and help by name."""
    return {
        each.name: (
            list(each.types),
            each.declared_type,
            each.default,
            each.default_source,
            each.help,
        )
        for each in declared_in(source, language)
    }


PYTHON = """# Parameters
%matplotlib inline
from pathlib import Path
alpha = 1  # the rate: is it right?
ratio: float = -0.5
name = "t"  # type: str who it is for
maybe: "int | None" = None
either: Union[int, str] = 1
choice: Literal["a", "b"] = "a"
items: List[int]
nested = [1, {"a": (True, None)}]
first, second = 1, "x"
one, two = pair()
head, *rest = 1, 2
left = right = 2.5
seconds = 60 * 60  # an hour
folder = Path("x")
text = ("two "
        "parts")  # joined
table = {
    "a": 1,  # inner
}  # outer
raw = b"bytes"
odd = {1: 2}
infinite = 1e999
alpha = 3  # counts
if alpha:
    inner = 1
class Kind: member = 1
def function(argument=1): local = 1
things[0] = 1
help?
"""


def test_python_is_read_by_its_grammar() -> None:
    assert told(PYTHON) == {
        "alpha": (["integer"], None, 3, "3", "counts"),
        "ratio": (["number"], "float", -0.5, "-0.5", None),
        "name": (["string"], "str", "t", '"t"', "who it is for"),
        "maybe": (["integer", "null"], "int | None", None, "None", None),
        "either": (["integer", "string"], "Union[int, str]", 1, "1", None),
        "choice": (["string"], 'Literal["a", "b"]', "a", '"a"', None),
        "items": (["array"], "List[int]", UNSET, None, None),
        "nested": (["array"], None, [1, {"a": [True, None]}], '[1, {"a": (True, None)}]', None),
        "first": (["integer"], None, 1, "1", None),
        "second": (["string"], None, "x", '"x"', None),
        "one": ([], None, UNSET, "pair()", None),
        "two": ([], None, UNSET, "pair()", None),
        "head": ([], None, UNSET, "1, 2", None),
        "rest": ([], None, UNSET, "1, 2", None),
        "left": (["number"], None, 2.5, "2.5", None),
        "right": (["number"], None, 2.5, "2.5", None),
        "seconds": ([], None, UNSET, "60 * 60", "an hour"),
        "folder": ([], None, UNSET, 'Path("x")', None),
        "text": (["string"], None, "two parts", '"two "\n        "parts"', "joined"),
        "table": (["object"], None, {"a": 1}, '{\n    "a": 1,  # inner\n}', "outer"),
        "raw": ([], None, UNSET, 'b"bytes"', None),
        "odd": ([], None, UNSET, "{1: 2}", None),
        "infinite": ([], None, UNSET, "1e999", None),
    }
    assert [each.name for each in declared_in("items: int\nx = 1", "python") if each.required] == [
        "items"
    ]


# Cells, and what `papermill.inspect_notebook` 2.7.0 tells of them: type, default, help.
PAPERMILL: dict[str, tuple[str, dict[str, tuple[str, str, str]]]] = {
    "plain": (
        """alpha = 1
beta = 0.5
name = "text"
flag = True
nothing = None
items = [1, 2, 3]
table = {"a": 1, "b": [2]}
""",
        {
            "alpha": ("None", "1", ""),
            "beta": ("None", "0.5", ""),
            "name": ("None", '"text"', ""),
            "flag": ("None", "True", ""),
            "nothing": ("None", "None", ""),
            "items": ("None", "[1, 2, 3]", ""),
            "table": ("None", '{"a": 1, "b": [2]}', ""),
        },
    ),
    "annotated": (
        """alpha: int = 1
ratio: float = -0.5
maybe: Optional[int] = None
items: List[str] = ["a"]
quoted: "str" = "x"
""",
        {
            "alpha": ("int", "1", ""),
            "ratio": ("float", "-0.5", ""),
            "maybe": ("Optional[int]", "None", ""),
            "items": ("List[str]", '["a"]', ""),
            "quoted": ("str", '"x"', ""),
        },
    ),
    "comments": (
        """alpha = 1  # the rate
beta = 2  # type: int
gamma = 3  # type: float how much of it
delta: int = 4  # both
name = "x"  # type: str who? really
""",
        {
            "alpha": ("None", "1", "the rate"),
            "beta": ("int", "2", ""),
            "gamma": ("float", "3", "how much of it"),
            "delta": ("int", "4", "both"),
            "name": ("str", '"x"', "who? really"),
        },
    ),
    "lines": (
        """# Parameters
items = [
    1,
    2,
]
table = {
    "a": 1,
}
# a comment between

last = 60 * 60  # seconds
""",
        {
            "items": ("None", "[1,2,]", ""),
            "table": ("None", '{"a": 1,}', ""),
            "last": ("None", "60 * 60", "seconds"),
        },
    ),
}


@pytest.mark.parametrize("name", PAPERMILL)
def test_papermill_infers_the_same(name: str) -> None:
    source, inferred = PAPERMILL[name]
    found = {
        each.name: (each.declared_type or "None", each.default_source or "", each.help or "")
        for each in declared_in(source, "python")
    }

    def packed(of: dict[str, tuple[str, str, str]]) -> dict[str, tuple[str, str, str]]:
        # It joins lines, without what indents them.
        return {
            name: (kind, "".join(default.split()), text)
            for name, (kind, default, text) in of.items()
        }

    assert packed(found) == packed(inferred)


def test_papermill_reads_less() -> None:
    """What its pattern of a line does not match it passes over, or refuses."""
    source = (
        "path = make('x', y=1)  # where\na, b = 1, 2\nbare: int\nlist_of: list[dict[str, int]] = []"
    )
    assert [each.name for each in declared_in(source, "python")] == [
        "path",
        "a",
        "b",
        "bare",
        "list_of",
    ]


R = """# Parameters
alpha <- 1 # the rate
ratio = -0.5
whole <- 5L
name <<- "te\\"xt # no comment\\u00e9" # who
flag <- TRUE; none <- NULL # nothing
vector <- c(1, 2,
  3) # three
words <- c("a", 'b,c')
mixed <- c(1, "a")
sum <- 1 +
  2
raw <- r"(raw # text)"
`odd name` <- 'single'
if (TRUE) { inner <- 1 }
f <- function(x = 3) {
  local <- 1
}
missing <- NA
large <- 1e400
b$c <- 1
"""


def test_r_is_read_as_far_as_literals_go() -> None:
    assert told(R, "r") == {
        "alpha": (["integer"], None, 1, "1", "the rate"),
        "ratio": (["number"], None, -0.5, "-0.5", None),
        "whole": (["integer"], None, 5, "5L", None),
        "name": (
            ["string"],
            None,
            'te"xt # no commenté',
            '"te\\"xt # no comment\\u00e9"',
            "who",
        ),
        "flag": (["boolean"], None, True, "TRUE", None),
        "none": ([], None, None, "NULL", "nothing"),
        "vector": ([], None, [1, 2, 3], "c(1, 2,\n  3)", "three"),
        "words": ([], None, ["a", "b,c"], "c(\"a\", 'b,c')", None),
        "mixed": ([], None, UNSET, 'c(1, "a")', None),
        "sum": ([], None, UNSET, "1 +   2", None),
        "raw": ([], None, UNSET, 'r"(raw # text)"', None),
        "odd name": (["string"], None, "single", "'single'", None),
        "f": ([], None, UNSET, "function(x = 3) {\n  local <- 1\n}", None),
        "missing": ([], None, UNSET, "NA", None),
        "large": ([], None, UNSET, "1e400", None),
    }


SCALA = '''// Parameters
val alpha = 1 // the rate
var maybe: Option[Double] = None
lazy val table: Map[String, Int] = Map("a" -> 1) /* a map */
val items = Seq("a", "b,)", "c // no")
val trimmed = "x".trim
val mapped = List(1,
  2).map(_ + 1)
val later = Seq(1)
  .map(_ + 1)
val large = 1.5e3; val small: Float = 1.5f
val whole: Long = 5L
val raw = """raw // " text"""
val name = "t\\u00e9\\n"
val unknown: Thing = make(1)
def method = { val local = 1 }
'''


def test_scala_is_read_as_far_as_literals_go() -> None:
    assert told(SCALA, "scala") == {
        "alpha": (["integer"], None, 1, "1", "the rate"),
        "maybe": (["number", "null"], "Option[Double]", None, "None", None),
        "table": (["object"], "Map[String, Int]", UNSET, 'Map("a" -> 1)', "a map"),
        "items": (["array"], None, ["a", "b,)", "c // no"], 'Seq("a", "b,)", "c // no")', None),
        "trimmed": ([], None, UNSET, '"x".trim', None),
        "mapped": ([], None, UNSET, "List(1,\n  2).map(_ + 1)", None),
        "later": ([], None, UNSET, "Seq(1)   .map(_ + 1)", None),
        "large": (["number"], None, 1500.0, "1.5e3", None),
        "small": (["number"], "Float", 1.5, "1.5f", None),
        "whole": (["integer"], "Long", 5, "5L", None),
        "raw": (["string"], None, 'raw // " text', '"""raw // " text"""', None),
        "name": (["string"], None, "té\n", '"t\\u00e9\\n"', None),
        "unknown": ([], "Thing", UNSET, "make(1)", None),
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(JSON)
@example(-0.0)
def test_what_python_is_given_is_read_back(value: Any) -> None:
    (found,) = declared_in(assignments("python", {"x": value}), "python")
    assert (found.default, str(found.default)) == (value, str(value))
    assert found.takes(value)


@pytest.mark.parametrize("language", ["r", "scala"])
@example("\x1f}")
@example("\U00010000")
@given(st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=40))
def test_scalars_that_others_are_given_are_read_back(language: Any, value: Any) -> None:
    if validate({"x": value}, language):
        return
    (found,) = declared_in(assignments(language, {"x": value}), language)
    assert found.default == value
    assert found.takes(value)


PIECES = st.sampled_from(
    [*"\n;#/'\"`\\()[]{}=:,.x5-+*~ ", "<-", "val x", "x = ", "# type: int", "def f", '"""', 'r"(']
)


@pytest.mark.parametrize("language", LANGUAGES)
@given(st.text(max_size=200) | st.lists(PIECES, max_size=60).map("".join))
def test_whatever_a_cell_holds_is_read_and_can_be_told(language: Any, source: str) -> None:
    for each in declared_in(source, language):
        assert each.name
        if each.default is not UNSET:
            msgspec.json.encode(each.default)


@pytest.mark.parametrize("language", LANGUAGES)
def test_large_cells_take_no_long_time(language: Any) -> None:
    for piece in (
        "x <- c(",
        '"',
        '\\"',
        "a +\n",
        "x = 1\n",
        "val x: ",
        " ",
        "\n",
        "a|",
        "-",
        "/*",
        "[",
    ):
        source = "x: int = " + piece * (MAX_SOURCE // 4 // len(piece))
        began = time.process_time()
        assert len(declared_in(source, language)) <= MAX_DECLARED
        # What grows with the square of the length takes minutes.
        assert time.process_time() - began < 20, piece


def test_nothing_is_evaluated_and_large_defaults_are_not_told(capsys: Any) -> None:
    source = f"x = print('run')\ny = {[0] * 2000}\nz = 0x{'f' * 10_000}\nn = '{'t' * 3000}'"
    found = told(source)
    assert capsys.readouterr().out == ""
    assert [each[2] for each in found.values()] == [UNSET] * 4
    assert all(len(each[3]) <= 2001 for each in found.values())
    # What is no Python is known by its names.
    assert declared_in("x = !ls\ny = 1", "python") == [Declared(name="x"), Declared(name="y")]
    assert not declared_in("x = !ls", "python")[0].required


@pytest.mark.parametrize(
    ("source", "fits", "fits_not"),
    [
        ("x: int = 1", [0, 2**70], [1.5, "1", True, None, [1]]),
        ("x: float = 1", [1, 0.5], ["1", None]),
        ("x: Optional[str] = 'a'", ["", None], [1, ["a"]]),
        ("x: str = None", ["a", None], [1]),
        ("x = 1  # type: int", [2], [2.5]),
        ("x = 1", [2, 2.5, None], ["2", True, [2], {}]),
        ("x = 'a'", ["b", None], [1]),
        ("x = None", [1, "a", None, []], []),
        ("x = unknown()", [1, "a", None, []], []),
        ("x: Unknown = 1", [1, "a", None, []], []),
        ("x = True", [False, None], [1, "true"]),
        ("x = {}", [{"a": 1}, None], [[]]),
    ],
)
def test_values_that_fit(source: str, fits: list[Any], fits_not: list[Any]) -> None:
    (found,) = declared_in(source, "python")
    assert [value for value in fits if not found.takes(value)] == []
    assert [value for value in fits_not if found.takes(value)] == []


def test_a_value_that_does_not_fit_is_told() -> None:
    source = "alpha: int = 1\nname = 'a'  # really?\nbare: float"
    cell = Cell(cell_id="c", cell_type="code", source=source, metadata={"tags": ["parameters"]})
    given = {"name": 5, "alpha": "1", "bare": 1, "beta": 2}
    found = as_warnings(advice([cell], [cell], given, "python"))
    assert found == [
        "/parameters/beta: the cell tagged 'parameters' does not set it; it sets alpha, name, bare",
        "/parameters/alpha: is text, and the notebook takes a whole number (int)",
        "/parameters/name: is a whole number, and the notebook takes text",
    ]
    assert parameters_cell([cell]) is cell
    assert parameters_cell([]) is None
