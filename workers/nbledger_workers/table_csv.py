"""Writes a Parquet file as CSV, for kernels whose language reads no Parquet.

In a process of its own, since a notebook may have made the file. Arguments: the Parquet file, and
the CSV file, which is then there and may only be read. Durations are their seconds, lists and
structures JSON, bytes hexadecimal. Why it could not be done goes to stderr.
"""

import json
import sys
from pathlib import Path

import polars as pl


def write(source: Path, target: Path) -> None:
    """Write the rows of ``source`` to ``target``, some at a time."""
    table = pl.scan_parquet(source, glob=False)
    written = [_as_csv(name, dtype) for name, dtype in table.collect_schema().items()]
    table.select(written).sink_csv(target)
    target.chmod(0o444)


def _as_csv(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.Duration:
        return column.dt.total_microseconds() / 1e6
    if dtype == pl.Binary:
        return column.bin.encode("hex")
    if dtype.is_nested():
        return column.map_elements(_json, pl.String)
    return column


def _json(cell: object) -> str:
    plain = cell.to_list() if isinstance(cell, pl.Series) else cell
    return json.dumps(plain, default=str, ensure_ascii=False)


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]), Path(sys.argv[2]))
    except (pl.exceptions.PolarsError, OSError) as error:
        sys.exit(str(error).partition("\n")[0])
