"""From Parquet to CSV, some rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

_ROWS = 16_384


def csv_pieces(path: Path, rows: int) -> Iterator[bytes]:
    """The table as CSV in UTF-8, in pieces of some thousand rows; the first has the header."""
    table = pl.scan_parquet(path)
    for start in range(0, max(rows, 1), _ROWS):
        part = table.slice(start, _ROWS).collect()
        nested = [name for name, dtype in part.schema.items() if dtype.is_nested()]
        part = part.with_columns(pl.col(name).map_elements(str, pl.String) for name in nested)
        yield part.write_csv(include_header=start == 0).encode()
