"""The processes that read tables of a notebook's making are held to what a table may be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import psutil
import pytest

from nbledger_workers.results import datasets
from nbledger_workers.results.datasets import InvalidTableError, TableReader


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([f"column {number}" for number in range(5_001)], "more than 5,000 columns"),
        (["x" * 1_001], "more than 1000 characters"),
        (["a\0b"], "cannot be stored"),
    ],
)
async def test_columns_that_no_upload_may_have_are_no_dataset(
    tmp_path: Path, names: list[str], reason: str
) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({name: [1] for name in names}).write_parquet(path)
    reader = TableReader()
    try:
        with pytest.raises(InvalidTableError, match=reason):
            await reader.read(path, "parquet", tmp_path)
    finally:
        await reader.close()


async def test_a_table_that_ends_its_reader_costs_the_next_one_nothing(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.parquet", tmp_path / "good.parquet"
    bad.write_bytes(b"PAR1 and nothing")
    pl.DataFrame({"a": [1, 2]}).write_parquet(good)
    reader = TableReader()
    try:
        with pytest.raises(InvalidTableError, match="cannot be read as a table"):
            await reader.read(bad, "parquet", tmp_path)
        before = _child("table_facts")
        assert (await reader.read(good, "parquet", tmp_path)).rows == 2
        assert _child("table_facts") == before, "one process for all"
        before.kill()
        with pytest.raises(InvalidTableError):
            await reader.read(good, "parquet", tmp_path)
        assert (await reader.read(good, "parquet", tmp_path)).rows == 2
        last = _child("table_facts")
    finally:
        await reader.close()
    assert not last.is_running()


def _child(name: str) -> psutil.Process:
    (found,) = [child for child in psutil.Process().children() if name in " ".join(child.cmdline())]
    return found


async def test_a_small_file_does_not_become_a_huge_one(tmp_path: Path) -> None:
    source, target = tmp_path / "table.parquet", tmp_path / "table.csv"
    pl.select(text=pl.repeat("x" * 1000, 150_000)).write_parquet(source)
    assert source.stat().st_size < 100_000
    assert not await datasets.write_csv(source, target)
    assert not target.exists()
    pl.select(text=pl.repeat("x" * 1000, 1_500)).write_parquet(source)
    assert await datasets.write_csv(source, target)
    assert target.stat().st_size > 1_500_000


def test_memory_is_bounded() -> None:
    source = "from nbledger_workers.results.table_limits import hold; hold(); bytearray(5 * 10**9)"
    ended = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "MemoryError" in ended.stderr
