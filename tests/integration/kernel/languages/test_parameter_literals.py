"""Literals of parameters, read back by the languages themselves."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from support.kernels import recorded
from support.languages import kernelspec

from nbledger_domain.parameters import Language, assignments, validate
from nbledger_workers.kernel.protocol import CellStatus

# Each prints one line for a value, in which nothing is lost: numbers by their 17 digits or bits,
# strings by their UTF-16 or Unicode code points.
SHOW = {
    "python": """
def show(v):
    if v is None: return 'null'
    if isinstance(v, bool): return 'true' if v else 'false'
    if isinstance(v, (int, float)): return repr(v)
    if isinstance(v, str): return 's' + ','.join(str(ord(c)) for c in v)
    if isinstance(v, dict):
        return '{' + ';'.join(show(k) + '=' + show(w) for k, w in v.items()) + '}'
    return '[' + ';'.join(map(show, v)) + ']'
""",
    "r": """
show <- function(v) {
  if (is.null(v)) return("null")
  if (is.logical(v)) return(if (v) "true" else "false")
  if (is.numeric(v)) return(sprintf("%.17g", v))
  if (is.character(v)) return(text(v))
  inner <- vapply(v, show, "")
  if (is.null(names(v))) return(paste0("[", paste(inner, collapse = ";"), "]"))
  if (length(v) == 0) return("{}")
  keys <- vapply(names(v), text, "")
  paste0("{", paste(paste0(keys, "=", inner), collapse = ";"), "}")
}
text <- function(v) paste0("s", paste(utf8ToInt(v), collapse = ","))
""",
    "scala": """
def show(v: Any): String = v match {
  case None => "null"
  case b: Boolean => b.toString
  case i: Int => i.toString
  case l: Long => l.toString
  case n: BigInt => n.toString
  case d: Double => "d" + java.lang.Double.doubleToRawLongBits(d)
  case s: String => "s" + s.map(_.toInt).mkString(",")
  case m: Map[_, _] =>
    m.toSeq.map { case (k, w) => show(k) + "=" + show(w) }.sorted.mkString("{", ";", "}")
  case l: Seq[_] => l.map(show).mkString("[", ";", "]")
}
""",
}
LINE = {
    "python": "print(show({0}))",
    "r": 'cat(show({0}), "\\n", sep = "")',
    "scala": "println(show({0}))",
}

NAN_BITS = 0x7FF8000000000000


def expected(language: Language, value: Any) -> str:  # noqa: C901 - one case for each type
    """The line that shows `value`."""

    def show(value: Any) -> str:
        return expected(language, value)

    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float() if language == "r":
            assert isinstance(value, float) or int(float(value)) == value
            return number_of_r(float(value))
        case float() if language == "scala":
            bits = (
                NAN_BITS if math.isnan(value) else struct.unpack(">q", struct.pack(">d", value))[0]
            )
            return f"d{bits}"
        case int() | float():
            return repr(value)
        case str() if language == "scala":
            units = value.encode("utf-16-be", "surrogatepass")
            codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
            return "s" + ",".join(map(str, codes))
        case str():
            return "s" + ",".join(str(ord(character)) for character in value)
        case dict():
            pairs = [f"{show(key)}={show(item)}" for key, item in value.items()]
            return "{" + ";".join(sorted(pairs) if language == "scala" else pairs) + "}"
    if language == "scala" and {type(item) for item in value} == {int, float}:
        # Its numbers share a type, where none is changed by that.
        exact = all(abs(item) <= 2**53 for item in value if isinstance(item, int))
        value = [float(item) for item in value] if exact else value
    return "[" + ";".join(map(show, value)) + "]"


def number_of_r(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return f"{value:.17g}"


def as_r_can_hold(value: Any) -> Any:
    """The same with the nearest integers that a double equals: others are refused."""
    if isinstance(value, dict):
        return {key: as_r_can_hold(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_r_can_hold(item) for item in value]
    return int(float(value)) if type(value) is int else value


def nested(depth: int, *, keys: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"k": value} if keys else [value]
    return value


STRINGS = (
    "",
    "plain",
    'O\'Neil said "\\n" \\ \n\r\t\b\f\v\x01\x7f',
    '${x} $x {y} %s %d `tick` #{z} r"(raw)" \'\'\'"""',
    "é \u2028\u2029\u202e\ufeff\ufffd 日本 😀 \U0010ffff",
    "\\u0041 \\U0001F600 \\x41",
    "a" * 200_000,
    "é" * 30_000,
    "ab😀\n" * 20_000,
)
NUMBERS = (
    0, 1, -1, 255, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1,
    2**53, 2**63 - 1, -(2**63), 2**63, 10**40,
    0.0, -0.0, 0.1, 1 / 3, 1e16, 1e22, 1e23, 123456789.12345679,
    5e-324, 2.2250738585072014e-308, 1.7976931348623157e308,
    math.nan, math.inf, -math.inf,
)  # fmt: skip
COLLECTIONS: tuple[Any, ...] = (
    [],
    {},
    [None, [None, None], {}, [[]]],
    {"": None, "a b": [1, "x", True], 'π\n"': {"k": {}}, "if": 1},
    nested(40, keys=False),
    nested(20, keys=True),
    list(range(5_000)),
    [[number, str(number), number / 7] for number in range(300)],
    {f"key {number}": [number] for number in range(300)},
    [1, 2.5, -(2**53)],
    [2.5, 2**53 + 1],
)


def some(dice: random.Random, depth: int = 0) -> Any:
    """Any JSON value that each of the languages can hold."""
    kind = dice.randrange(8 if depth < 4 else 6)
    if kind == 0:
        return dice.choice([None, True, False])
    if kind == 1:
        return dice.randint(-(2**70), 2**70) >> dice.randrange(70)
    if kind == 2:
        bits = struct.unpack(">d", dice.randbytes(8))[0]
        return 0.5 if math.isnan(bits) else bits
    if kind == 3:
        return round(dice.uniform(-1e6, 1e6), dice.randrange(8))
    if kind in (4, 5):
        codes = (dice.choice((0x80, 0xD800, 0x10FFFF)) for _ in range(dice.randrange(12)))
        return (
            "".join(chr(dice.randrange(1, code)) for code in codes)
            .encode("utf-8", "ignore")
            .decode()
        )
    if kind == 6:
        return [some(dice, depth + 1) for _ in range(dice.randrange(6))]
    return {str(some(dice, 9))[:40]: some(dice, depth + 1) for _ in range(dice.randrange(6))}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("language", ["python", "r", "scala"])
async def test_every_literal_is_read_back_as_it_was(tmp_path: Path, language: Language) -> None:
    kernel = kernelspec(language)
    dice = random.Random(20)
    values = [*STRINGS, *NUMBERS, *COLLECTIONS, *(some(dice) for _ in range(100))]
    if language == "r":
        values = [as_r_can_hold(value) for value in values]
    parameters = {f"p{number}": value for number, value in enumerate(values)}
    assert validate(parameters, language) == []
    # Some at a time, as requests would bring them.
    names = list(parameters)
    groups = [names[at : at + 20] for at in range(0, len(names), 20)]
    cells = [SHOW[language]]
    for group in groups:
        cells.append(assignments(language, {name: parameters[name] for name in group}))
        cells.append("\n".join(LINE[language].format(name) for name in group))
    run = await recorded(
        tmp_path, *cells, kernel_name=kernel, timeout=200.0, max_output_bytes=50_000_000
    )
    assert run.statuses == [CellStatus.SUCCESS] * len(cells), [
        (cell.error_name, cell.error_value) for cell in map(run.cell, range(len(run.statuses)))
    ]
    for number, group in enumerate(groups):
        lines = run.text(2 + 2 * number).splitlines()
        assert len(lines) == len(group)
        for name, line in zip(group, lines, strict=True):
            assert line == expected(language, parameters[name]), json.dumps(parameters[name])[:300]


NAMES = (
    "x", "_x", "x_1", "X", ".x", "x.y", "T", "F", "c", "list", "data", "res0", "publish", "kernel",
    "if", "class", "type", "None", "Seq", "Map", "wait", "hashCode", "toString", "eq", "scala",
    "String", "Int", "Array", "println", "self", "this", "val", "NULL", "NA", "TRUE", "function",
    "..1", "...", "BigInt", "Double", "StringBuilder", "synchronized", "clone", "main", "part",
    "java", "Predef", "Any", "Option", "List", "length", "print", "paste0", "structure", "end",
    "then", "given", "enum", "using", "as", "open", "inline", "match", "async", "await", "lambda",
)  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("language", ["python", "r", "scala"])
async def test_every_allowed_name_can_be_assigned(tmp_path: Path, language: Language) -> None:
    kernel = kernelspec(language)
    # Whose literal needs all that a literal ever needs.
    value = [1, 2**70, None, {"k": [[math.inf]]}]
    long = ["x" * 20_000, list(range(600))]
    names = [name for name in NAMES if not validate({name: value}, language)]
    assert 20 < len(names) < len(NAMES)
    run = await recorded(
        tmp_path,
        assignments(language, dict.fromkeys(names, value)),
        assignments(language, {"after": value, "long": long}),
        kernel_name=kernel,
    )
    assert run.statuses == [CellStatus.SUCCESS] * 2, run.finished
