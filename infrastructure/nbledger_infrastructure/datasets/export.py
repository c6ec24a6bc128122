"""From Parquet to CSV, some rows at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

_ROWS = 16_384


def csv_pieces(path: Path, rows: int) -> Iterator[bytes]:
    """The table as CSV in UTF-8, in pieces of some thousand rows; the first has the header."""
    table = pl.scan_parquet(path)
    table = table.select(csv_value(name, dtype) for name, dtype in table.collect_schema().items())
    for start in range(0, max(rows, 1), _ROWS):
        part = table.slice(start, _ROWS).collect()
        yield part.write_csv(include_header=start == 0).encode()


def csv_value(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as CSV has it: durations in seconds, lists and structures as JSON, bytes in hex."""
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
