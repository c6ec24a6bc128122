"""An event log in one form, whatever its columns are called and whichever library holds it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from mindzie_sdk import frames

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {
    "case": ("case_id", "case:concept:name"),
    "activity": ("activity", "concept:name"),
    "timestamp": ("timestamp", "time:timestamp"),
}


def ordered_events(
    log: "pd.DataFrame | pl.DataFrame",
    case: str | None,
    activity: str | None,
    timestamp: str | None,
) -> pl.DataFrame:
    """Columns ``case``, ``activity`` and ``timestamp``, by case and within it by time.

    Cases come in the order in which the log first tells of them. Raises KeyError for a column that
    is not there, TypeError for times that are none, ValueError for events that lack one of the
    three.
    """
    given = {"case": case, "activity": activity, "timestamp": timestamp}
    if not isinstance(log, pl.DataFrame) and not frames.is_pandas(log):
        raise TypeError(f"A log is a frame of pandas or polars, and no {type(log).__name__}.")
    names = {part: _find(part, name, list(log.columns)) for part, name in given.items()}
    needed = list(dict.fromkeys(names.values()))
    # Other columns may hold what takes long to convert.
    chosen = log.select(needed) if isinstance(log, pl.DataFrame) else log.loc[:, needed]
    events = frames.to_polars(chosen).select(
        pl.col(name).alias(part) for part, name in names.items()
    )
    if events.is_empty():
        return events.cast({"activity": pl.String, "timestamp": pl.Datetime("us")})
    for part, count in events.null_count().row(0, named=True).items():
        if count:
            raise ValueError(
                f"{count} of {events.height} events have no {names[part]!r}: fill or drop them."
            )
    if events.schema["timestamp"] not in (pl.Datetime, pl.Date):
        raise TypeError(
            f"{names['timestamp']!r} holds no times: convert it, as with pandas.to_datetime."
        )
    if events.schema["timestamp"] == pl.Date:
        events = events.cast({"timestamp": pl.Datetime("us")})
    return (
        events.cast({"activity": pl.String})
        .with_row_index("row")
        .with_columns(first=pl.col("row").min().over("case"))
        .sort("first", "timestamp", "row")
        .drop("first", "row")
    )


def _find(part: str, given: str | None, there: Sequence[object]) -> str:
    wanted = _NAMES[part] if given is None else (given,)
    for name in wanted:
        if name in there:
            return name
    raise KeyError(f"The log has no column {' or '.join(map(repr, wanted))} for the {part}.")
