"""A table that is written as CSV and read again is the same one, and everybody writes it alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mindzie_sdk import frames
from nbledger_infrastructure.datasets import csv_text
from nbledger_infrastructure.datasets.column_types import column_type
from nbledger_infrastructure.datasets.export import csv_pieces
from nbledger_infrastructure.datasets.ingest import Ingested, ingest_csv
from nbledger_workers.results import table_csv

_FIRST = dt.datetime(1700, 1, 1)  # noqa: DTZ001 (a table may have times of no zone)
_LAST = dt.datetime(2250, 1, 1)  # noqa: DTZ001
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001
_SECONDS = (_LAST - _EPOCH) // dt.timedelta(seconds=1)
_texts = st.text(st.sampled_from("ab0 7,;\t|\"'\n\r\\ü\N{SNOWMAN}"), max_size=8)
_present = _texts.map("x{}".format)
_decimals = st.one_of(
    st.tuples(st.integers(-(10**14), 10**14), st.just(3)),
    st.tuples(st.integers(10**20, 10**30), st.sampled_from([1, 5, 8])),
)

_VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "boolean": (pl.Boolean, st.booleans()),
    "int8": (pl.Int8, st.integers(-128, 127)),
    "uint32": (pl.UInt32, st.integers(0, 2**32 - 1)),
    "int64": (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pl.UInt64, st.integers(0, 2**64 - 1)),
    "int128": (pl.Int128, st.integers(-(10**38) + 1, 10**38 - 1)),
    "float": (pl.Float64, st.floats()),
    "decimal": (
        pl.Decimal(38, 8),
        _decimals.map(lambda told: Decimal(told[0]).scaleb(-told[1])),
    ),
    "date": (pl.Date, st.dates(dt.date(1000, 1, 1))),
    "time": (pl.Time, st.integers(0, 86_400 * 10**9 - 1)),
    "datetime": (pl.Datetime("us"), st.datetimes(dt.datetime(1000, 1, 1))),  # noqa: DTZ001
    "exact": (pl.Datetime("ns"), st.integers(-_SECONDS * 10**9, _SECONDS * 10**9)),
    "zoned": (pl.Datetime("us", "UTC"), st.datetimes(_FIRST, _LAST, timezones=st.just(dt.UTC))),
    "local": (pl.Datetime("ms", "Europe/Berlin"), st.integers(-(10**12), 10**12)),
    "duration": (
        pl.Duration("us"),
        st.timedeltas(dt.timedelta(days=-100_000), dt.timedelta(days=100_000)),
    ),
    "fine": (pl.Duration("ns"), st.integers(-(2**62), 2**62)),
    "text": (pl.String, st.one_of(_present, st.just(""))),
    "code": (pl.String, st.from_regex(r"\A0[0-9]{1,20}\Z")),
}


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """Some columns of some types, with nulls."""
    kinds = draw(st.lists(st.sampled_from(sorted(_VALUES)), min_size=3, max_size=6, unique=True))
    height = draw(st.integers(2, 8))
    columns = []
    for kind in kinds:
        dtype, values = _VALUES[kind]
        cells = draw(st.lists(values | st.none(), min_size=height, max_size=height))
        # Of a column without any value nobody could tell the type.
        cells[draw(st.integers(0, height - 1))] = draw(_present if kind == "text" else values)
        columns.append(pl.Series(kind, cells, dtype=dtype, strict=False))
    return pl.DataFrame(columns)


def exported(table: pl.DataFrame, folder: Path) -> bytes:
    path = folder / "exported.parquet"
    table.write_parquet(path)
    return b"".join(csv_pieces(path, table.height))


def read(content: bytes, folder: Path) -> tuple[Ingested, pl.DataFrame]:
    source = folder / "upload"
    source.write_bytes(content)
    made = asyncio.run(ingest_csv(source, folder))
    return made, pl.read_parquet(made.path)


def plain(value: Any) -> Any:
    """A value as it compares whatever holds it."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _by_chance_a_double() -> pl.DataFrame:
    """A decimal of 20 digits that a double is, though it shows 17 of them."""
    numbers = [Decimal(0), Decimal(10272969302685270016)]
    return pl.DataFrame(
        {
            "boolean": [False, None],
            "decimal": pl.Series(numbers, dtype=pl.Decimal(38, 8)),
        }
    )


def _finer_at_once() -> pl.DataFrame:
    """Times of two kinds that both get a fraction in the same late row."""
    ticks = [0, 0, 1]
    exact = pl.Series("exact", ticks, dtype=pl.Datetime("ns"))
    local = pl.Series("local", ticks, dtype=pl.Datetime("ms", "Europe/Berlin"))
    fine = pl.Series("fine", ticks, dtype=pl.Duration("ns"))
    return pl.DataFrame([fine, exact, local])


@given(tables(), st.sampled_from([64, 256 * 1024]))
@example(_finer_at_once(), 64)
@example(_by_chance_a_double(), 64)
def test_a_type_that_goes_in_comes_out(table: pl.DataFrame, piece_bytes: int) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(csv_text, "PIECE_BYTES", piece_bytes),
    ):
        folder = Path(name)
        content = exported(table, folder)
        made, again = read(content, folder)
        assert [(column.name, column.type) for column in made.columns] == [
            (column, column_type(dtype)) for column, dtype in table.schema.items()
        ], again.schema
        for before, after in zip(table, again, strict=True):
            if isinstance(before.dtype, pl.Datetime | pl.Duration | pl.Time):
                # Nanoseconds, which Python's own types have not.
                unit = "ns" if str(before.dtype).find("ns") >= 0 else "us"
                counted = [
                    series.cast(pl.Int64) if series.dtype == pl.Time else _counted(series, unit)
                    for series in (before, after)
                ]
                assert counted[0].to_list() == counted[1].to_list(), (before, after)
            else:
                assert list(map(plain, before)) == list(map(plain, after)), (before, after)
        if "local" not in table.columns and "decimal" not in table.columns:
            assert exported(again, folder) == content


def _counted(series: pl.Series, unit: str) -> pl.Series:
    if isinstance(series.dtype, pl.Datetime):
        series = series.dt.convert_time_zone("UTC") if series.dtype.time_zone else series
        return series.dt.cast_time_unit(unit).to_physical()  # type: ignore[arg-type]
    return series.dt.cast_time_unit(unit).to_physical()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1", str(2**63)], pl.Decimal(38, 0)),
        ([str(2**63)] * 2, pl.Decimal(38, 0)),
        (["1", "9" * 38], pl.Decimal(38, 0)),
        (["1", "9" * 39], pl.String()),
        (["9" * 39, "1"], pl.String()),
        (["0.5", "12345678901234567.89"], pl.Decimal(38, 2)),
        (["0.125", "12345678901234567.89"], pl.Decimal(38, 3)),
        (["12345678901234567.89", "0.125"], pl.Decimal(38, 3)),
        (["12345678901234567.89", "1e5"], pl.String()),
        (["12345678901234567.89", "NaN"], pl.String()),
        (["12345678901234567.89", "0." + "1" * 30], pl.String()),
        # Doubles have these values too, but show fewer digits.
        (["0.5", "10272969302685270016.00000000"], pl.Decimal(38, 8)),
        (["0.5", "11978745460661757673472.00000000"], pl.Decimal(38, 8)),
        (["-1234567890123456.75", "0.5"], pl.Decimal(38, 2)),
        (["90071992547409936.0", "0.5"], pl.Decimal(38, 1)),
        (["0.5", f"{0.1:.18f}"], pl.Decimal(38, 18)),
        (["0.5", f"{0.1:.22f}"], pl.Decimal(38, 22)),
        (["0.5", "-.123456789012345678"], pl.Decimal(38, 18)),
        # No number at all.
        (["0.5", "1.10.200.3000.40000.500000"], pl.String()),
        (["12345678901234567.89", "1.10.200.3000.40000.500000"], pl.String()),
        # What a double is when all of its digits are asked for.
        (["0.5", f"{0.1:.23f}"], pl.Float64()),
        (["0.5", f"{0.1:.30f}"], pl.Float64()),
        (["0.5", f"{-(10**37):.2f}"], pl.Float64()),
        (["0.5", f"{10**22:.8f}"], pl.Float64()),
        (["0.5", f"{1 / 3:.18e}"], pl.Float64()),
        (["0.30000000000000004", "0.1"], pl.Float64()),
        (["PT1.5S", "P1DT2H"], pl.Duration("us")),
        (["PT1.5S", "-PT0.123456789S"], pl.Duration("ns")),
        (["PT1.5S", "P1Y"], pl.String()),
        (["P", "PT"], pl.String()),
        (["PT1S", "PT999999999999999S"], pl.String()),
    ],
)
@pytest.mark.parametrize("rows", [1, 1_000])
def test_no_digit_is_lost(tmp_path: Path, texts: list[str], dtype: pl.DataType, rows: int) -> None:
    first, last = texts
    content = "\n".join(["a,b", *[f"{first},x"] * rows, f"{last},x", ""]).encode()
    # A thousand rows take several pieces.
    with mock.patch.object(csv_text, "PIECE_BYTES", 1024):
        _, table = read(content, tmp_path)
    assert table.schema["a"] == dtype
    if dtype == pl.Duration:
        assert table["a"].cast(pl.Duration("us")).dt.total_microseconds()[0] == 1_500_000
    elif dtype == pl.String():
        assert table["a"].to_list() == [first] * rows + [last]
    elif dtype != pl.Float64():
        assert (table["a"][0], table["a"][-1]) == (Decimal(first), Decimal(last))
    else:
        assert (table["a"][0], table["a"][-1]) == (float(first), float(last))


async def test_everybody_writes_a_table_alike(tmp_path: Path) -> None:
    day = dt.datetime(2024, 1, 31, 10)  # noqa: DTZ001
    berlin = pl.Series([day]).dt.replace_time_zone("Europe/Berlin")
    table = pl.DataFrame(
        {
            "integer": [2**62],
            "big": pl.Series([2**100]).cast(pl.Decimal(38, 0)),
            "decimal": pl.Series([Decimal("12.50")]),
            "number": [0.1],
            "nan": [math.nan],
            "boolean": [True],
            "text": ['"x",\n'],
            "empty": [""],
            "date": [day.date()],
            "time": [dt.time(10, 0, 0, 1)],
            "local": [day],
            "zoned": berlin,
            "exact": pl.Series([1]).cast(pl.Datetime("ns")),
            "duration": [dt.timedelta(hours=-1, milliseconds=5)],
            "fine": pl.Series([1_000_000_001]).cast(pl.Duration("ns")),
            "bytes": [b"\x00\xff"],
            "list": [[1, 2]],
            "structure": [{"at": day, "for": dt.timedelta(seconds=1), "b": b"\xff"}],
            "array": pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2)),
            "category": pl.Series(["c"], dtype=pl.Categorical),
        }
    )
    table = pl.concat([table, table.clear(1)])
    path = tmp_path / "table.parquet"
    table.write_parquet(path)
    content = b"".join(csv_pieces(path, 2))
    frames.write(table, tmp_path / "sdk.csv", "csv")
    table_csv.write(path, tmp_path / "kernel.csv")
    assert (tmp_path / "sdk.csv").read_bytes() == content
    assert (tmp_path / "kernel.csv").read_bytes() == content
    assert content.decode().split("\n", 1)[1] == (
        "4611686018427387904,1267650600228229401496703205376,12.50,0.1,NaN,true,"
        '"""x"",\n","",2024-01-31,10:00:00.000001,2024-01-31T10:00:00,2024-01-31T10:00:00+01:00,'
        "1970-01-01T00:00:00.000000001,-PT3599.995S,PT1.000000001S,00ff,"
        '"[1, 2]","{""at"": ""2024-01-31T10:00:00"", ""for"": 1.0, ""b"": ""ff""}","[1, 2]",c\n'
        ",,,,,,,,,,,,,,,,,,,\n"
    )


def test_integers_of_more_than_64_bits_stay_integers() -> None:
    series = pl.Series("n", [2**100, None], dtype=pl.Int128)
    table = frames.to_polars(pl.DataFrame([series]))
    assert frames.columns_of(table) == [{"name": "n", "type": "integer"}]
    assert column_type(table.schema["n"]) == "integer"
    assert frames.to_pandas(table)["n"].to_list() == [2**100, None]
    assert isinstance(frames.to_pandas(table)["n"][0], int)
