"""Writes a Parquet file as CSV, for kernels whose language reads no Parquet.

In a process of its own, since a notebook may have made the file. Arguments: the Parquet file, and
the CSV file, which is then there and may only be read. Why it could not be done goes to stderr;
one reason is a CSV file out of all proportion to the other.
"""

import sys
from pathlib import Path
from typing import Final

import polars as pl

from nbledger_infrastructure.datasets.csv_values import csv_value
from nbledger_workers.results import table_limits

_LEAST_BYTES: Final = 100_000_000
_TIMES: Final = 100
"""The CSV file may have so many bytes, and so many for each byte of the Parquet file."""


def write(source: Path, target: Path) -> None:
    """Write the rows of ``source`` to ``target``, some at a time."""
    table = pl.scan_parquet(source, glob=False)
    written = [csv_value(name, dtype) for name, dtype in table.collect_schema().items()]
    table.select(written).sink_csv(target)
    target.chmod(0o444)


if __name__ == "__main__":
    given = Path(sys.argv[1])
    try:
        table_limits.hold(file_bytes=_LEAST_BYTES + _TIMES * given.stat().st_size)
        write(given, Path(sys.argv[2]))
    except (pl.exceptions.PolarsError, OSError) as error:
        sys.exit(str(error).partition("\n")[0])
