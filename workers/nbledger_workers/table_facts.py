"""Reads the table that a notebook handed back, in a process of its own: nobody vouches for it.

Arguments: the file, its format (parquet or csv), and a folder for the Parquet file that is made
of CSV. Tells of the Parquet file as JSON on stdout, or why there is none on stderr.
"""

import asyncio
import sys
from pathlib import Path

import msgspec
import polars as pl

from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets.column_types import columns
from nbledger_workers.results import Table


def read(path: Path, kind: str, folder: Path) -> Table:
    """The table as a Parquet file, with what is in it."""
    if kind == "csv":
        from nbledger_infrastructure.datasets.ingest import (  # noqa: PLC0415 - takes its time
            ingest_csv,
        )

        made = asyncio.run(ingest_csv(path, folder))
        return Table(str(made.path), made.rows, made.columns)
    frame = pl.scan_parquet(path, glob=False)
    rows = frame.select(pl.len()).collect().item()
    return Table(str(path), rows, columns(frame.collect_schema()))


if __name__ == "__main__":
    try:
        table = read(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
    except (InvalidCsvError, pl.exceptions.PolarsError, OSError) as error:
        sys.exit(f"it cannot be read as a table: {str(error).partition(chr(10))[0]}")
    sys.stdout.buffer.write(msgspec.json.encode(table))
