"""Frames of pandas and polars: from one to the other, and to and from files.

polars reads and writes the files. pandas would need pyarrow for that, which keeps threads that a
kernel cannot be forked beside.
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import polars as pl

if TYPE_CHECKING:
    import pandas as pd

    Frame: TypeAlias = pd.DataFrame | pl.DataFrame | pl.LazyFrame

FileFormat: TypeAlias = Literal["parquet", "csv"]
Engine: TypeAlias = Literal["pandas", "polars"]

_EXACT_IN_FLOAT = 2**53


def to_polars(frame: "Frame") -> pl.DataFrame:
    """The same table in polars; what pandas calls missing is null.

    Named levels of a pandas index become columns, an unnamed index is dropped. Objects that no
    column type holds become text. Raises TypeError when ``frame`` is no data frame, ValueError
    when two of its columns have one name.

    >>> import pandas as pd
    >>> to_polars(pd.DataFrame({"amount": [1.5, None]}))["amount"].to_list()
    [1.5, None]
    """
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if not _is_pandas(frame):
        raise TypeError(
            f"A pandas or polars data frame is needed, and this is a {type(frame).__name__}."
        )
    levels = [name for name in frame.index.names if name is not None]
    unnamed = [at for at, name in enumerate(frame.index.names) if name is None]
    if levels:
        kept = frame.reset_index(level=unnamed, drop=True) if unnamed else frame
        twice = [name for name in levels if name in frame.columns]
        kept = kept.reset_index(level=twice, drop=True) if twice else kept
        frame = kept if len(twice) == len(levels) else kept.reset_index()
    names = [_name(label) for label in frame.columns]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"Two columns are called {doubled[0]!r}: rename one of them.")
    return pl.DataFrame(
        [_to_polars_series(name, frame.iloc[:, at]) for at, name in enumerate(names)]
    )


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
    """Write it as Parquet, or as CSV in UTF-8 with a header, times in ISO 8601."""
    if file_format == "parquet":
        frame.write_parquet(path, compression="zstd")
    else:
        _flat(frame).write_csv(path)


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
        series = pl.Series(name, [], dtype=pl.Object)
    if series.dtype == pl.Null:
        return series.cast(pl.String)
    if series.dtype == pl.Object:
        texts = [None if cell is None else str(cell) for cell in cells]
        return pl.Series(name, texts, dtype=pl.String)
    return series


def _to_pandas_series(series: pl.Series) -> Any:
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
    if dtype.is_integer():
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


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """What CSV cannot hold is JSON in it; a duration is its seconds."""
    return frame.with_columns(
        [
            (series.dt.total_microseconds() / 1e6).alias(series.name)
            if series.dtype == pl.Duration
            else pl.Series(series.name, [_json(cell) for cell in series], dtype=pl.String)
            for series in frame
            if series.dtype == pl.Duration or series.dtype.is_nested() or series.dtype == pl.Binary
        ]
    )


def _json(cell: object) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, pl.Series):
        cell = cell.to_list()
    return json.dumps(cell, default=_plain, ensure_ascii=False)


def _plain(value: object) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else str(value)
