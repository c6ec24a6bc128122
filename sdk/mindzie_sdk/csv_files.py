"""Tables as CSV: each type written so that it is known again, and every value with all its digits.

The service writes the datasets that it serves in the same way, to the byte.
"""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl

_TIME = "%H:%M:%S%.f"
_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write the rows in UTF-8 below a header; a missing value is left out, an empty text is quoted.

    >>> write(pl.DataFrame({"at": [dt.datetime(2024, 1, 31, 10)]}), Path("times.csv"))
    >>> Path("times.csv").read_text().splitlines()
    ['at', '2024-01-31T10:00:00']
    """
    frame.select([csv_value(name, dtype) for name, dtype in frame.schema.items()]).write_csv(path)


def csv_value(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as CSV has it.

    Times and durations are written as ISO 8601 has them (``2024-01-31T10:00:00+01:00``,
    ``PT5400.25S``), with as many digits of a second as they need; lists and structures are JSON,
    bytes hexadecimal.
    """
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        zone = "" if dtype.time_zone is None else "%:z"
        return column.dt.to_string(f"%Y-%m-%dT{_TIME}{zone}")
    if dtype == pl.Time:
        return column.dt.to_string(_TIME)
    if isinstance(dtype, pl.Duration):
        return _duration(column, _PER_SECOND[dtype.time_unit]).alias(name)
    if dtype == pl.Binary:
        return column.bin.encode("hex")
    if dtype.base_type() in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if dtype == pl.Array:
        column = column.arr.to_list()
    if dtype.is_nested():
        return column.map_elements(_json, pl.String)
    return column


def _duration(column: pl.Expr, per_second: int) -> pl.Expr:
    ticks = column.to_physical().cast(pl.Int128)
    digits = len(str(per_second)) - 1
    fraction = (ticks.abs() % per_second).cast(pl.String).str.zfill(digits).str.strip_chars_end("0")
    return pl.concat_str(
        pl.when(ticks < 0).then(pl.lit("-PT")).otherwise(pl.lit("PT")),
        (ticks.abs() // per_second).cast(pl.String),
        pl.when(fraction == "").then(pl.lit("S")).otherwise("." + fraction + "S"),
    )


def _json(cell: object) -> str:
    plain = cell.to_list() if isinstance(cell, pl.Series) else cell
    return json.dumps(plain, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, pl.Series):
        return value.to_list()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else str(value)
