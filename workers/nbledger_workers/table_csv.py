"""Writes a Parquet file as CSV, for kernels whose language reads no Parquet.

In a process of its own, since a notebook may have made the file. Arguments: the Parquet file, and
the CSV file, which is then there and may only be read. Why it could not be done goes to stderr.
"""

import sys
from pathlib import Path

import polars as pl

from nbledger_infrastructure.datasets.export import csv_value


def write(source: Path, target: Path) -> None:
    """Write the rows of ``source`` to ``target``, some at a time."""
    table = pl.scan_parquet(source, glob=False)
    written = [csv_value(name, dtype) for name, dtype in table.collect_schema().items()]
    table.select(written).sink_csv(target)
    target.chmod(0o444)


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]), Path(sys.argv[2]))
    except (pl.exceptions.PolarsError, OSError) as error:
        sys.exit(str(error).partition("\n")[0])
