"""Reads tables that a notebook handed back, in a process of its own: nobody vouches for them.

Each line on stdin is a JSON list: the file, its format (parquet or csv), and a folder for the
Parquet file that is made of CSV. Each is answered with a line on stdout: the Parquet file and what
is in it as JSON, or a text that says why there is none.
"""

import asyncio
import sys
from pathlib import Path

import msgspec
import polars as pl

from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets.column_types import columns
from nbledger_infrastructure.datasets.csv_dialect import MAX_COLUMNS, MAX_NAME
from nbledger_workers.results import table_limits
from nbledger_workers.results.descriptions import ParquetTable


class UnfitColumnsError(Exception):
    """A dataset has no such columns; the message says why."""


def read(path: Path, kind: str, folder: Path) -> ParquetTable:
    """The table as a Parquet file, with what is in it.

    Raises :class:`UnfitColumnsError`, ``InvalidCsvError``, and what polars raises.
    """
    if kind == "csv":
        from nbledger_infrastructure.datasets.ingest import (  # noqa: PLC0415 - takes its time
            ingest_csv,
        )

        made = asyncio.run(ingest_csv(path, folder))
        return ParquetTable(str(made.path), made.rows, made.columns)
    frame = pl.scan_parquet(path, glob=False)
    schema = frame.collect_schema()
    _check(schema.names())
    rows = frame.select(pl.len()).collect().item()
    return ParquetTable(str(path), rows, columns(schema))


def _check(names: list[str]) -> None:
    """Uploads are held to the same."""
    if len(names) > MAX_COLUMNS:
        raise UnfitColumnsError(f"there are more than {MAX_COLUMNS:,} columns")
    if any(len(name) > MAX_NAME for name in names):
        raise UnfitColumnsError(f"a column has a name of more than {MAX_NAME} characters")
    if any("\0" in name for name in names):
        raise UnfitColumnsError("a column has a name that cannot be stored")


def _told(path: str, kind: str, folder: str) -> ParquetTable | str:
    try:
        return read(Path(path), kind, Path(folder))
    except MemoryError:
        return "it takes too much memory to read"
    except (InvalidCsvError, UnfitColumnsError, pl.exceptions.PolarsError, OSError) as error:
        return f"it cannot be read as a table: {str(error).partition(chr(10))[0]}"[:300]


if __name__ == "__main__":
    table_limits.hold()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(_told(*msgspec.json.decode(line))) + b"\n")
        sys.stdout.buffer.flush()
