"""Whatever a table holds and however it was written as CSV, it is read as it was."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import re
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets import csv_dialect, csv_text
from nbledger_infrastructure.datasets.ingest import Ingested, ingest_csv

_NAMES = ("case id", "Activity", "Größe", "d")
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252")

_numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["007", "-0", "+5", "1e3", ".5", "5.", "0", "00", "1,5", "true", "False"]),
)
_times = st.one_of(
    st.dates().map(str),
    st.datetimes().map(lambda at: at.isoformat()),
    st.datetimes().map(lambda at: at.isoformat(sep=" ", timespec="seconds") + "Z"),
    st.tuples(st.datetimes(), st.from_regex(r"\A[0-9]{1,10}\Z")).map(
        lambda told: f"{told[0].replace(microsecond=0).isoformat()}.{told[1]}"
    ),
    st.datetimes().map(lambda at: at.strftime("%d/%m/%Y %H:%M:%S")),
)
_text = st.text(
    st.characters(codec="cp1252", exclude_characters="\0\r", exclude_categories=["Cs"]),
    max_size=12,
)
_columns = st.sampled_from([_numbers, _times, _text, st.one_of(_numbers, _text, st.just(""))])


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """Rows of two to four values, most columns of one kind until late."""
    width = draw(st.integers(2, len(_NAMES)))
    kinds = [draw(_columns) for _ in range(width)]
    return draw(st.lists(st.tuples(*kinds).map(list), min_size=1, max_size=16))


def _written(
    rows: list[list[str]], *, delimiter: str, line_end: str, quoting: Any, encoding: str
) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(_NAMES[: len(rows[0])])
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def _ingested(content: bytes, piece_bytes: int) -> tuple[Ingested, pl.DataFrame]:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(csv_text, "PIECE_BYTES", piece_bytes),
    ):
        source = Path(folder) / "upload.csv"
        source.write_bytes(content)
        made = asyncio.run(ingest_csv(source, Path(folder)))
        return made, pl.read_parquet(made.path)


def _same(read: Any, written: str) -> bool:
    if read is None:
        return written == ""
    if isinstance(read, str):
        return read == written
    if isinstance(read, bool):
        return str(read).lower() == written.lower()
    if isinstance(read, int | Decimal):
        return read == Decimal(written) and not re.match(r"[+-]?0\d", written.strip())
    if isinstance(read, float):
        return read == float(written)
    if isinstance(read, dt.datetime):
        told = dt.datetime.fromisoformat(written)
        return read.replace(tzinfo=None) == told.replace(tzinfo=None)
    return isinstance(read, dt.date) and read == dt.date.fromisoformat(written)


def _nanoseconds(written: str) -> int | None:
    """The fraction of a second, which Python's own times hold a part of only."""
    if not written:
        return None
    return int(f"{float('0.' + (written.rstrip('Z').partition('.')[2] or '0')):.9f}"[2:])


@given(
    tables(),
    st.fixed_dictionaries(
        {
            "delimiter": st.sampled_from(csv_dialect.DELIMITERS),
            "line_end": st.sampled_from(["\n", "\r\n"]),
            "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
            "encoding": st.sampled_from(_ENCODINGS),
        }
    ),
    st.sampled_from([64, 200, 256 * 1024]),
)
@example(
    [[str(2**63), ""]],
    {"delimiter": ",", "line_end": "\n", "quoting": csv.QUOTE_MINIMAL, "encoding": "utf-8"},
    64,
)
def test_a_table_is_read_as_it_was_written(
    rows: list[list[str]], form: dict[str, Any], piece_bytes: int
) -> None:
    content = _written(rows, **form)
    if form["encoding"] == "cp1252":
        # Some pairs of its bytes are UTF-8 by chance; a file with many of these is refused.
        assume(content.decode("utf-8", "ignore") == content.decode("ascii", "ignore"))
    made, table = _ingested(content, piece_bytes)
    assert made.delimiter == form["delimiter"]
    assert table.columns == list(_NAMES[: len(rows[0])])
    assert table.height == made.rows == len(rows)
    for number, row in enumerate(rows):
        for read, written in zip(table.row(number), row, strict=True):
            assert _same(read, written), (number, read, written, table.schema)
    for index, column in enumerate(table):
        if isinstance(column.dtype, pl.Datetime):
            fractions = [_nanoseconds(row[index]) for row in rows]
            assert column.dt.nanosecond().to_list() == fractions, table.schema


@given(tables(), st.integers(0, 16), st.sampled_from([64, 256 * 1024]))
def test_a_row_with_too_many_values_is_told_by_its_number(
    rows: list[list[str]], at: int, piece_bytes: int
) -> None:
    rows = [[value.replace("\n", " ") for value in row] for row in rows]
    at = min(at, len(rows) - 1)
    width = len(rows[0])
    rows[at] = [*rows[at], "one more"]
    content = _written(
        [["x"] * width, *rows],
        delimiter=",",
        line_end="\n",
        quoting=csv.QUOTE_ALL,
        encoding="utf-8",
    )
    with pytest.raises(InvalidCsvError) as caught:
        _ingested(content, piece_bytes)
    # The header is row 1, and the row of x the second.
    assert caught.value.row == at + 3


_MANY = 2_000
"""So many short rows take several pieces."""


@pytest.mark.parametrize(
    ("first", "late", "dtype"),
    [
        ("1", "00017", pl.String),
        ("1.5", "007", pl.String),
        ("1", "0.5", pl.Float64),
        ("1", " 9007199254740993", pl.String),
        ("1.5", "9007199254740993", pl.String),
        ("9007199254740993", "0.5", pl.String),
        ("2024-01-01T08:00:00", "2024-01-01T08:00:00.250", pl.Datetime),
        ("2024-01-01T08:00:00", "2024-01-01T08:00:00.1234567", pl.Datetime("ns")),
        ("2024-01-01T08:00:00.1234567", "2024-01-01T08:00:00", pl.Datetime("ns")),
        ("9999-12-31T23:59:59", "2024-01-01T08:00:00.1234567", pl.String),
        ("2024-01-01T08:00:00", "9999-12-31T23:59:59.9999999", pl.String),
        ("2024-01-01T08:00:00", "2024-01-01T08:00:00.1234567891", pl.String),
        ("2024-01-01", "03/02/2024", pl.String),
        ("2024-01-01T08:00:00", "03/02/2024 08:00:00", pl.String),
        ("2024-01-01T08:00:00", "yesterday", pl.String),
        ("2024-01-01T08:00:00Z", "2024-06-01T08:00:00Z", pl.Datetime),
        ("true", "perhaps", pl.String),
        ("1.5", "1e400", pl.String),
        ("1.5", "-1e-400", pl.String),
        ("1", "1e400", pl.String),
        ("1e400", "1.5", pl.String),
        ("1.5", "0e-400", pl.Float64),
        ("1.5", "inf", pl.Float64),
        ("2024-01-01T08:00:00", "2024-12-31T23:59:60", pl.String),
        ("2024-12-31T23:59:60Z", "2024-01-01T08:00:00Z", pl.String),
        ("20240101T080000", "20241231T235960", pl.String),
        ("08:00:00", "08:00:60", pl.String),
        ("2024-01-01", "2024-01-01T08:00:00", pl.String),
        ("2024-01-01T08:00:00", "2024-01-01", pl.String),
        ("2024-01-01T08:00:00", "2024-01-01 08:00:00.5", pl.Datetime),
        ("2024-01-01 08:00", "2024-01-01T08:00:00.1234567", pl.Datetime("ns")),
        ("2024-01-01T08:00:00", "2024-01-01 08:00:00Z", pl.String),
        ("2024-01-01T08:00:00Z", "2024-01-01 08:00:00", pl.String),
        ("2024-01-01T08:00:00", "2024-12-31 23:59:60", pl.String),
        ("2024-01-01T08:00:00", "1500-01-01 08:00:00.1234567", pl.String),
    ],
)
def test_a_late_value_changes_the_type_and_no_value(first: str, late: str, dtype: Any) -> None:
    lines = ["a,b", *[f"{first},x"] * _MANY, f"{late},x", ""]
    _, table = _ingested("\n".join(lines).encode(), 2 * 1024)
    assert table.schema["a"] == dtype or table.schema["a"].base_type() == dtype, table.schema
    assert _same(table["a"][0], first)
    assert _same(table["a"][-1], late)


@pytest.mark.parametrize(
    "values",
    [
        ["2024-01-31", "31/01/2024"],
        ["2024-01-31T08:00:00", "31/01/2024 08:00:00"],
        ["03/02/2024", "04/02/2024"],
        ["31.01.2024", "01.02.2024"],
        ["2024-01-31T08:00:00", "2024-01-31"],
    ],
)
def test_days_that_may_be_others_stay_text(values: list[str]) -> None:
    lines = ["a,b,c", *[f"1,{value},2024-01-31" for value in values], ""]
    _, table = _ingested("\n".join(lines).encode(), 64 * 1024)
    assert table.schema == {"a": pl.Int64, "b": pl.String, "c": pl.Date}
    assert table["b"].to_list() == values


_ZONES = {"": None, "Z": dt.UTC, "+05:30": dt.timezone(dt.timedelta(hours=5, minutes=30))}


@st.composite
def written_times(draw: st.DrawFn, zones: list[str]) -> tuple[str, dt.datetime, int]:
    """A time as somebody writes it: the text, the time to the second, and its nanoseconds."""
    time = draw(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1)))  # noqa: DTZ001
    digits = draw(st.integers(-2, 9))
    if digits == -2:
        time = time.replace(second=0)
    time = time.replace(microsecond=0)
    fraction = draw(st.integers(0, 10**digits - 1)) if digits > 0 else 0
    text = time.isoformat(draw(st.sampled_from("T ")), "minutes" if digits == -2 else "seconds")
    text += f".{fraction:0{digits}d}" if digits > 0 else ""
    zone = draw(st.sampled_from(zones))
    told = time if not zone else time.replace(tzinfo=_ZONES[zone])
    return text + zone, told, fraction * 10 ** (9 - max(digits, 0))


@given(
    st.sampled_from([[""], ["Z"], ["Z", "+05:30"]]).flatmap(
        lambda zones: st.lists(written_times(zones), min_size=1, max_size=12)
    ),
    st.sampled_from([64, 256 * 1024]),
)
def test_times_are_times_however_they_are_written(
    times: list[tuple[str, dt.datetime, int]], piece_bytes: int
) -> None:
    lines = ["at", *(text for text, _, _ in times), ""]
    _, table = _ingested("\n".join(lines).encode(), piece_bytes)
    (at,) = table
    assert at.dtype.base_type() == pl.Datetime, at.dtype
    assert at.dt.truncate("1s").to_list() == [time for _, time, _ in times]
    assert at.dt.nanosecond().to_list() == [nanoseconds for _, _, nanoseconds in times]


@pytest.mark.parametrize(
    ("header", "names", "nameless"),
    [
        (",a,b", ["Unnamed: 0", "a", "b"], [1]),
        ('"",a," "', ["Unnamed: 0", "a", "Unnamed: 2"], [1, 3]),
        (",Unnamed: 0,Unnamed: 0.1", ["Unnamed: 0.2", "Unnamed: 0", "Unnamed: 0.1"], [1]),
        (",,", ["Unnamed: 0", "Unnamed: 1", "Unnamed: 2"], [1, 2, 3]),
    ],
)
def test_a_column_without_a_name_gets_that_of_pandas(
    header: str, names: list[str], nameless: list[int]
) -> None:
    made, table = _ingested(f"{header}\n0,1,x\n1,2,y\n".encode(), 256 * 1024)
    assert table.columns == names
    assert table.rows() == [(0, 1, "x"), (1, 2, "y")]
    assert list(made.warnings) == [
        f"The header names no column {place}; it is called {names[place - 1]!r}."
        for place in nameless
    ]


def test_many_columns_without_a_name_are_told_in_few_words() -> None:
    made, _ = _ingested(b"," * 99 + b"\n", 256 * 1024)
    assert len(made.columns) == 100
    assert len(made.warnings) == 11
    assert made.warnings[-1].startswith("The header leaves 90 more columns without a name")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n\n1,2\n", 1),
        ("a,b\n\n", 0),
        ("a,b\r\n\r\n1,2\r\n\r\n\r\n3,4", 2),
        ("a,b\n\n" + "1,2\n\n" * 1_000, 1_000),
        ("a\n\n1\n", 2),
    ],
)
@pytest.mark.parametrize("piece_bytes", [64, 1000, 256 * 1024])
def test_blank_lines_are_no_rows_where_there_are_columns(
    text: str, rows: int, piece_bytes: int
) -> None:
    made, table = _ingested(text.encode(), piece_bytes)
    assert made.rows == table.height == rows


@pytest.mark.parametrize(
    ("line", "delimiter"), [("sep=;", ";"), ('"SEP=,"', ","), ("sep=\t", "\t"), ("sep=^", "^")]
)
@pytest.mark.parametrize(
    ("encoding", "line_end"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\r")]
)
def test_the_delimiter_may_be_declared_in_a_line_before_the_header(
    line: str, delimiter: str, encoding: str, line_end: str
) -> None:
    lines = [line, f"a|b{delimiter}{'c' * 100}", *[f"ü|1{delimiter}2"] * 50, ""]
    made, table = _ingested(line_end.join(lines).encode(encoding), 64)
    assert (made.delimiter, table.columns) == (delimiter, ["a|b", "c" * 100])
    assert table.rows() == [("ü|1", 2)] * 50
    # The header is row 1 all the same.
    lines[-1] = f"1{delimiter}2{delimiter}3"
    with pytest.raises(InvalidCsvError) as caught:
        _ingested(line_end.join(lines).encode(encoding), 64)
    assert caught.value.row == 52


_GOOD = 'ü,"Zürich\nMüller"\n'.encode()


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf", b"sep=,\n"])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", "ü".encode("cp1252")])
@pytest.mark.parametrize(("before", "after"), [(1_000, 0), (0, 1_000), (10, 10)])
def test_utf8_with_a_bad_byte_is_refused_with_its_row(
    begin: bytes, bad: bytes, before: int, after: int
) -> None:
    content = begin + b"a,b\n" + _GOOD * before + b"x," + bad + b"\n" + _GOOD * after
    with pytest.raises(InvalidCsvError, match=r"UTF-8|utf-8") as caught:
        _ingested(content, 256)
    assert caught.value.row == before + 2


def test_windows_1252_may_have_pairs_that_are_utf8_by_chance() -> None:
    content = "a,b\nNESTLÉ®,Zürich\n" + "é,Müller™ Söhne\n" * 10
    made, table = _ingested(content.encode("cp1252"), 256)
    assert (made.encoding, table["a"][0]) == ("cp1252", "NESTLÉ®")


def test_a_header_may_be_longer_than_what_is_read_at_once() -> None:
    names = [f"{number:04d}{'n' * 700}" for number in range(400)]
    made, _ = _ingested(f"{','.join(names)}\n{','.join('1' * 400)}\n".encode(), 256 * 1024)
    assert [column.name for column in made.columns] == names


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\n1,2\n".encode("utf-32"), "UTF-32"),
        ("a\0,b\n1,2\n".encode("utf-16"), "NUL"),
        ("a,b\n1,\0\n".encode("utf-16"), "NUL"),
        (b"a,b\n1,\0\n", "NUL"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidCsvError, match=reason):
        _ingested(content, 256 * 1024)


def test_rows_are_counted_where_they_are_longest(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n" * 1_000_000)
        file.write((b"a," + b"b" * 5_000 + b"\n") * 2_000)
    rows = csv_text.rows_of(path, 2_500_000, most_parts=2_000)
    assert 450 <= rows <= 520
    # Not so few that there would be no end of parts.
    assert csv_text.rows_of(path, 2_500_000, most_parts=100) == 1_002_000 // 100
