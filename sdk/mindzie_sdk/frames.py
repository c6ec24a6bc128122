"""Frames of pandas and polars: from one to the other, and to and from files.

polars reads and writes the files. pandas would need pyarrow for that, which keeps threads that a
kernel cannot be forked beside.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import polars as pl

from mindzie_sdk import csv_files

if TYPE_CHECKING:
    import pandas as pd

    Frame: TypeAlias = pd.DataFrame | pl.DataFrame | pl.LazyFrame

FileFormat: TypeAlias = Literal["parquet", "csv"]
Engine: TypeAlias = Literal["pandas", "polars"]

_EXACT_IN_FLOAT = 2**53
_LONGEST_DECIMAL = 10**38 - 1


def to_polars(frame: "Frame") -> pl.DataFrame:
    """The same table in polars; what pandas calls missing is null.

    Named levels of a pandas index become columns, unless a column already holds the same; an
    unnamed index is dropped. Cells that no column type holds whole become text, which is JSON for
    lists and dictionaries; floats have 64 bits at most. Raises TypeError when ``frame`` is no data
    frame, ValueError when two of its columns have one name.

    >>> import pandas as pd
    >>> to_polars(pd.DataFrame({"amount": [1.5, None]}))["amount"].to_list()
    [1.5, None]
    """
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame.select([_storable(series) for series in frame])
    if not _is_pandas(frame):
        raise TypeError(
            f"A pandas or polars data frame is needed, and this is a {type(frame).__name__}."
        )
    columns = [
        _to_polars_series(_name(label), frame.iloc[:, at]) for at, label in enumerate(frame.columns)
    ]
    levels = [
        _to_polars_series(_name(label), frame.index.get_level_values(at).to_series())
        for at, label in enumerate(frame.index.names)
        if label is not None
    ]
    # As `set_index(drop=False)` leaves them.
    held = {series.name: series for series in columns}
    series = [
        each for each in levels if each.name not in held or not each.equals(held[each.name])
    ] + columns
    name, times = next(iter(Counter(each.name for each in series).most_common(1)), ("", 0))
    if times > 1:
        raise ValueError(f"Two columns are called {name!r}: rename one of them.")
    return pl.DataFrame([_storable(each) for each in series])


def to_pandas(frame: pl.DataFrame) -> "pd.DataFrame":
    """The same table in pandas.

    Whole numbers with nulls become floats, as everywhere in pandas, unless a float cannot hold
    them; true and false with nulls become pandas' ``boolean``; dates become times at midnight.

    >>> to_pandas(pl.DataFrame({"case_id": ["a", "b"], "n": [1, None]})).dtypes["n"]
    dtype('float64')
    """
    import pandas as pd  # noqa: PLC0415 (polars alone is enough for who asks for polars)

    columns = {series.name: _to_pandas_series(series) for series in frame}
    return pd.DataFrame(columns, index=pd.RangeIndex(frame.height), columns=frame.columns)


def is_pandas(frame: object) -> bool:
    """Whether it is a data frame of pandas."""
    return _is_pandas(frame)


def columns_of(frame: pl.DataFrame) -> list[dict[str, str]]:
    """Name and type of each column; the types are those that data sets are described with.

    >>> columns_of(pl.DataFrame({"case_id": ["a"], "amount": [1.5]}))
    [{'name': 'case_id', 'type': 'string'}, {'name': 'amount', 'type': 'number'}]
    """
    return [{"name": name, "type": _type_name(dtype)} for name, dtype in frame.schema.items()]


def write(frame: pl.DataFrame, path: Path, file_format: FileFormat) -> None:
    """Write it as Parquet, or as CSV in UTF-8 with a header."""
    if file_format == "parquet":
        frame.write_parquet(path, compression="zstd")
    else:
        csv_files.write(frame, path)


def read(path: Path) -> pl.DataFrame:
    """Read a Parquet file, or a CSV file, in which times are recognised."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path, glob=False)
    return pl.read_csv(path, try_parse_dates=True, infer_schema_length=None, glob=False)


def _is_pandas(frame: object) -> bool:
    # Without importing pandas: what is a frame of it has imported it.
    return any(
        kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == "pandas"
        for kind in type(frame).__mro__
    )


def _name(label: object) -> str:
    # A pivoted or grouped frame has labels of several levels.
    return (
        "_".join(str(part) for part in label if part != "")
        if isinstance(label, tuple)
        else str(label)
    )


def _to_polars_series(name: str, series: "pd.Series") -> pl.Series:
    import pandas as pd  # noqa: PLC0415

    if isinstance(series.dtype, pd.SparseDtype):
        series = series.sparse.to_dense()
    if series.dtype == object:
        series = series.infer_objects()
    dtype = series.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        naive = series.dt.tz_convert("UTC").dt.tz_localize(None)
        utc = _to_polars_series(name, naive).dt.replace_time_zone("UTC")
        zone = str(dtype.tz)
        try:
            return utc.dt.convert_time_zone(zone)
        except pl.exceptions.PolarsError:  # an offset, which is no name of a zone
            return utc
    kind = dtype.kind if isinstance(dtype.kind, str) else "O"
    if not pd.api.types.is_extension_array_dtype(dtype) and kind in "iufbmM":
        values = series.to_numpy()
        if kind == "f" and values.dtype.itemsize > 8:
            values = values.astype("float64")
        if kind in "mM" and not str(values.dtype).endswith(("[ns]", "[us]", "[ms]")):
            values = values.astype(f"{kind}8[us]")
        return pl.Series(name, values, nan_to_null=True)
    missing = series.isna()
    cells = series.astype(object).where(~missing, None).tolist()
    known = {"i": pl.Int64, "u": pl.UInt64, "f": pl.Float64, "b": pl.Boolean}.get(kind)
    if known is not None:
        return pl.Series(name, cells, dtype=known)
    return _from_objects(name, cells)


def _from_objects(name: str, cells: list[Any]) -> pl.Series:
    try:
        series = pl.Series(name, cells, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return _to_texts(name, cells)
    if series.dtype == pl.Null:
        return series.cast(pl.String)
    # The first cells have chosen the type, into which polars has cut the others, or dropped them.
    if series.dtype == pl.Object or (series.dtype != pl.String and not _same(series, cells)):
        return _to_texts(name, cells)
    return series


def _same(kept: object, given: object) -> bool:
    """Whether it is what was given; a key that a dictionary lacks is null in a column."""
    kept, given = _listed(kept), _listed(given)
    if isinstance(given, dict):
        return isinstance(kept, dict) and all(
            _same(kept.get(key), given.get(key)) for key in kept.keys() | given.keys()
        )
    if isinstance(given, list):
        return isinstance(kept, list) and len(kept) == len(given) and all(map(_same, kept, given))
    if isinstance(kept, float) and math.isnan(kept):
        return bool(given != given)  # noqa: PLR0124 (NaN, in whatever type)
    try:
        return isinstance(kept, bool) is isinstance(given, bool) and bool(kept == given)
    except Exception:  # noqa: BLE001 - objects of somebody's own raise anything
        return False


def _listed(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, pl.Series):
        return value.to_list()
    to_list = getattr(value, "tolist", None)  # of numpy and pandas
    return to_list() if callable(to_list) else value


def _to_texts(name: str, cells: Iterable[object]) -> pl.Series:
    return pl.Series(name, [_text(cell) for cell in cells], dtype=pl.String)


def _text(cell: object) -> str | None:
    if cell is None:
        return None
    text = str(cell)
    if isinstance(_listed(cell), list | dict):
        # Keys that JSON cannot have, or a loop.
        with suppress(TypeError, ValueError, RecursionError):
            text = _json(cell) or text
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no UTF-8


def _storable(series: pl.Series) -> pl.Series:
    """The same in a type that files of every reader hold."""
    dtype = series.dtype
    if dtype == pl.Object or _is_hollow(dtype):
        return _to_texts(series.name, series.to_list())
    if dtype == pl.Float16:
        return series.cast(pl.Float32)
    if dtype in (pl.Int128, pl.UInt128):
        ends = [end for end in (series.min(), series.max()) if isinstance(end, int)]
        fits = all(abs(end) <= _LONGEST_DECIMAL for end in ends)
        return series.cast(pl.Decimal(38, 0) if fits else pl.String)
    return series


def _is_hollow(dtype: object) -> bool:
    """Whether it has a structure without fields in it, which Parquet knows not."""
    if isinstance(dtype, pl.Struct):
        return not dtype.fields or any(_is_hollow(each.dtype) for each in dtype.fields)
    if isinstance(dtype, pl.List | pl.Array):
        return _is_hollow(dtype.inner)
    return False


def _to_pandas_series(series: pl.Series) -> Any:  # noqa: C901 - one case for each type
    import pandas as pd  # noqa: PLC0415

    dtype, nulls = series.dtype, series.null_count()
    if isinstance(dtype, pl.Datetime):
        times = pd.Series(series.dt.replace_time_zone(None).to_numpy())
        if dtype.time_zone is None:
            return times
        utc = pd.Series(series.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy())
        return utc.dt.tz_localize("UTC").dt.tz_convert(dtype.time_zone)
    if dtype == pl.Date:
        return pd.Series(series.cast(pl.Datetime("us")).to_numpy())
    if isinstance(dtype, pl.Decimal) and dtype.scale == 0:
        return pd.Series(series.cast(pl.Int128).to_list(), dtype=object)
    if dtype in (pl.Int128, pl.UInt128):
        return pd.Series(series.to_list(), dtype=object)
    if dtype.is_integer() and nulls and _too_large(series):
        return pd.Series(series.to_list(), dtype="UInt64" if _unsigned(dtype) else "Int64")
    if dtype == pl.Boolean and nulls:
        return pd.Series(series.to_list(), dtype="boolean")
    if dtype.is_integer() or dtype.is_float() or dtype in (pl.Boolean, pl.Duration):
        return pd.Series(series.to_numpy(writable=True))
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pd.Series(pd.Categorical(series.to_list()))
    if dtype == pl.String:
        return pd.Series(series.to_list(), dtype=_text_type())
    return pd.Series(series.to_list(), dtype=object)


def _text_type() -> Any:
    import pandas as pd  # noqa: PLC0415

    return "str" if int(pd.__version__.partition(".")[0]) >= 3 else object


def _too_large(series: pl.Series) -> bool:
    ends = [int(end) for end in (series.min(), series.max()) if isinstance(end, int)]
    return any(abs(end) > _EXACT_IN_FLOAT for end in ends)


def _unsigned(dtype: pl.DataType) -> bool:
    return dtype.is_unsigned_integer()


def _type_name(dtype: pl.DataType) -> str:
    if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0):
        return "integer"
    if dtype.is_numeric():
        return "number"
    names: Iterable[tuple[Any, str]] = (
        (pl.String, "string"),
        (pl.Categorical, "string"),
        (pl.Enum, "string"),
        (pl.Boolean, "boolean"),
        (pl.Datetime, "datetime"),
        (pl.Date, "date"),
        (pl.Time, "time"),
        (pl.Duration, "duration"),
    )
    return next((name for kind, name in names if dtype == kind), "other")


def _json(cell: object) -> str | None:
    if cell is None:
        return None
    return json.dumps(_listed(cell), default=_plain, ensure_ascii=False)


def _plain(value: object) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    listed = _listed(value)  # numbers and arrays of numpy
    return str(value) if type(listed) is type(value) else listed
