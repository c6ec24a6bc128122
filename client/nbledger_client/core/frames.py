"""Tables as data frames, of the library that is installed."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"

_READS_PARQUET = ("pyarrow", "fastparquet")
_PANDAS_TYPES = {
    "integer": "Int64",
    "number": "float64",
    "boolean": "boolean",
    "string": "string",
    "time": "string",
    "duration": "string",
    "other": "string",
}


class Column(Protocol):
    """What is told of a column."""

    name: str
    type: str


def polars_of(content: bytes) -> pl.DataFrame:
    """The frame in a Parquet file."""
    import polars as pl

    return pl.read_parquet(io.BytesIO(content))


def pandas_reads_parquet() -> bool:
    """Whether pandas has what it needs for that here."""
    return any(importlib.util.find_spec(name) is not None for name in _READS_PARQUET)


def pandas_of(content: bytes, form: str, columns: Sequence[Column]) -> pd.DataFrame:
    """The frame in a Parquet file, or in a CSV file whose columns are these."""
    import pandas as pd

    if form == "parquet":
        return pd.read_parquet(io.BytesIO(content))
    types: Any = {each.name: kind for each in columns if (kind := _PANDAS_TYPES.get(each.type))}
    dates = [each.name for each in columns if each.type in ("date", "datetime")]
    frame: pd.DataFrame = pd.read_csv(
        io.BytesIO(content), dtype=types, parse_dates=dates, keep_default_na=False, na_values=[""]
    )
    return frame


def csv_of(frame: Any) -> bytes:
    """A frame of polars or pandas, or a Parquet file, as CSV."""
    if isinstance(frame, Path):
        import polars as pl

        frame = pl.read_parquet(frame)
    if hasattr(frame, "write_csv"):
        return str(frame.write_csv()).encode()
    if hasattr(frame, "to_csv"):
        return str(frame.to_csv(index=False)).encode()
    raise TypeError(f"This is no data frame: {type(frame).__name__}")
