"""Tables as CSV: values of every type, in pieces that are bounded, in a process of its own."""

from __future__ import annotations

import csv
import datetime as dt
import io
from pathlib import Path

import polars as pl
import pytest

from nbledger_infrastructure.datasets import export
from nbledger_infrastructure.datasets.export import ExportError, csv_pieces, csv_stream


def kept(folder: Path, table: pl.DataFrame) -> Path:
    path = folder / "table.parquet"
    table.write_parquet(path)
    return path


async def test_nested_values_are_json(tmp_path: Path) -> None:
    pairs = pl.Array(pl.Int64, 2)
    table = pl.DataFrame(
        {
            "array": pl.Series([[1, 2], None], dtype=pairs),
            "arrays": pl.Series([[[1, 2]], [[3, 4]]], dtype=pl.Array(pairs, 1)),
            "list": [["a"], []],
            "structure": [{"x": [1]}, None],
            "category": pl.Series(["c", "d"], dtype=pl.Categorical),
        }
    )
    content = b"".join([piece async for piece in csv_stream(kept(tmp_path, table), 2)])
    assert list(csv.reader(io.StringIO(content.decode()))) == [
        table.columns,
        ["[1, 2]", "[[1, 2]]", '["a"]', '{"x": [1]}', "c"],
        ["", "[[3, 4]]", "[]", "", "d"],
    ]


def test_times_have_the_digits_that_they_need(tmp_path: Path) -> None:
    day = dt.datetime(2024, 1, 1, 10)  # noqa: DTZ001 (a table may have times of no zone)
    local = [day, day.replace(microsecond=250_000)]
    table = pl.DataFrame(
        {
            "date": [day.date()] * 2,
            "time": [dt.time(10), dt.time(10, 0, 0, 1)],
            "local": local,
            "zoned": pl.Series(local).dt.replace_time_zone("Europe/Berlin"),
            "exact": pl.Series([None, 1_704_103_200_123_456_789]).cast(pl.Datetime("ns", "UTC")),
        }
    )
    content = b"".join(csv_pieces(kept(tmp_path, table), 2)).decode()
    assert content.splitlines() == [
        "date,time,local,zoned,exact",
        "2024-01-01,10:00:00,2024-01-01T10:00:00,2024-01-01T10:00:00+01:00,",
        (
            "2024-01-01,10:00:00.000001,2024-01-01T10:00:00.250,2024-01-01T10:00:00.250+01:00,"
            "2024-01-01T10:00:00.123456789+00:00"
        ),
    ]


@pytest.mark.parametrize("listed", [False, True])
def test_pieces_are_bounded_however_little_the_file_is(tmp_path: Path, *, listed: bool) -> None:
    value = pl.Series(["x" * 1_000_000])
    table = pl.DataFrame({"a": value}).select(pl.col("a").repeat_by(60).explode())
    if listed:
        table = table.select(pl.concat_list("a"))
    path = kept(tmp_path, table)
    assert path.stat().st_size < 100_000
    sizes = [len(piece) for piece in csv_pieces(path, 60)]
    assert sum(sizes) > 60_000_000
    assert max(sizes) <= export.PIECE_BYTES + 1_000


def test_steps_that_grow_and_shrink_lose_no_row(tmp_path: Path) -> None:
    values = ["s" * (1 if 500 < row < 30_000 else 20_000) for row in range(31_000)]
    table = pl.DataFrame({"row": range(31_000), "text": values})
    content = b"".join(csv_pieces(kept(tmp_path, table), 31_000))
    assert pl.read_csv(content).equals(table)


def test_a_table_without_rows_has_its_header(tmp_path: Path) -> None:
    path = kept(tmp_path, pl.DataFrame({"a": []}, schema={"a": pl.Int64}))
    assert b"".join(csv_pieces(path, 0)) == b"a\n"


async def test_what_unfolds_beyond_the_memory_ends_its_process_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kept(tmp_path, pl.DataFrame({"a": ["x" * 30_000_000]}))
    assert path.stat().st_size < 100_000
    assert sum([len(piece) async for piece in csv_stream(path, 1)]) > 30_000_000
    monkeypatch.setattr(export, "MEMORY_BYTES", 100_000_000)
    with pytest.raises(ExportError):
        _ = [len(piece) async for piece in csv_stream(path, 1)]


async def test_a_file_that_is_no_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(ExportError, match="Error: "):
        _ = [piece async for piece in csv_stream(path, 1)]
