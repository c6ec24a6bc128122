"""What an event log tells of its process."""

from typing import TYPE_CHECKING, TypeVar, cast

import polars as pl

from mindzie_sdk import frames
from process_mining_utils.event_log import ordered_events

if TYPE_CHECKING:
    import pandas as pd

Table = TypeVar("Table", "pd.DataFrame", "pl.DataFrame")


def variants(
    log: Table,
    *,
    case: str | None = None,
    activity: str | None = None,
    timestamp: str | None = None,
) -> Table:
    """The ways that cases take: the most frequent first.

    Columns: ``variant`` (its activities, with arrows between), ``length`` (events), ``cases``,
    ``share`` (of all cases, 0 to 1) and ``mean_hours`` (from the first event to the last).

    >>> from mindzie_sdk import sample_event_log
    >>> int(variants(sample_event_log(cases=100))["cases"].sum())
    100
    """
    events = ordered_events(log, case, activity, timestamp)
    ways = (
        events.group_by("case", maintain_order=True)
        .agg(pl.col("activity"), _hours(_span()).alias("hours"))
        .group_by("activity", maintain_order=True)
        .agg(cases=pl.len(), mean_hours=pl.col("hours").mean())
        .select(
            pl.col("activity").list.join(" → ").alias("variant"),
            pl.col("activity").list.len().cast(pl.Int64).alias("length"),
            pl.col("cases").cast(pl.Int64),
            (pl.col("cases") / pl.col("cases").sum()).alias("share"),
            "mean_hours",
        )
    )
    return _like(log, ways.sort("cases", "variant", descending=[True, False]))


def directly_follows_graph(
    log: Table,
    *,
    case: str | None = None,
    activity: str | None = None,
    timestamp: str | None = None,
) -> Table:
    """Which activity follows which: the edges, the most frequent first.

    Columns: ``source``, ``target``, ``count``, ``mean_hours`` and ``median_hours`` (between the
    two events).

    >>> from mindzie_sdk import sample_event_log
    >>> edges = directly_follows_graph(sample_event_log(cases=100))
    >>> edges.loc[0, ["source", "target"]].to_list()
    ['Check Documents', 'Review Application']
    """
    edges = (
        _steps(ordered_events(log, case, activity, timestamp))
        .group_by("source", "target", maintain_order=True)
        .agg(
            count=pl.len().cast(pl.Int64),
            mean_hours=pl.col("hours").mean(),
            median_hours=pl.col("hours").median(),
        )
    )
    return _like(log, edges.sort("count", "source", "target", descending=[True, False, False]))


def cycle_times(
    log: Table,
    *,
    case: str | None = None,
    activity: str | None = None,
    timestamp: str | None = None,
) -> Table:
    """How long each case takes, in the order in which the log first tells of them.

    Columns: ``case_id``, ``start``, ``end``, ``events`` and ``hours`` (from the first to the last).

    >>> from mindzie_sdk import sample_event_log
    >>> bool((cycle_times(sample_event_log(cases=100))["hours"] > 0).all())
    True
    """
    events = ordered_events(log, case, activity, timestamp)
    times = events.group_by("case", maintain_order=True).agg(
        start=pl.col("timestamp").min(),
        end=pl.col("timestamp").max(),
        events=pl.len().cast(pl.Int64),
        hours=_hours(_span()),
    )
    return _like(log, times.rename({"case": "case_id"}))


def bottlenecks(
    log: Table,
    *,
    case: str | None = None,
    activity: str | None = None,
    timestamp: str | None = None,
) -> Table:
    """Where cases wait: activities, those first before which most time passes altogether.

    Waiting is the time since the event before in the same case. Columns: ``activity``, ``waits``
    (how many), ``total_hours``, ``mean_hours``, ``median_hours``, ``p90_hours`` and ``share`` (of
    all that is waited, 0 to 1).

    >>> from mindzie_sdk import sample_event_log
    >>> bottlenecks(sample_event_log(cases=400))["activity"].head(2).to_list()
    ['Review Application', 'Manager Approval']
    """
    hours = pl.col("hours")
    waits = (
        _steps(ordered_events(log, case, activity, timestamp))
        .group_by(pl.col("target").alias("activity"), maintain_order=True)
        .agg(
            waits=pl.len().cast(pl.Int64),
            total_hours=hours.sum(),
            mean_hours=hours.mean(),
            median_hours=hours.median(),
            p90_hours=hours.quantile(0.9, interpolation="linear"),
        )
        .with_columns(share=_share(pl.col("total_hours")))
    )
    return _like(log, waits.sort("total_hours", "activity", descending=[True, False]))


def rework(
    log: Table,
    *,
    case: str | None = None,
    activity: str | None = None,
    timestamp: str | None = None,
) -> Table:
    """What is done again: activities, those first that are repeated most.

    Columns: ``activity``, ``events``, ``cases`` (in which it occurs), ``rework_cases`` (in which it
    occurs more than once), ``repeats`` (events after the first of a case) and ``share`` (of its
    cases that have rework, 0 to 1).

    >>> from mindzie_sdk import sample_event_log
    >>> rework(sample_event_log(cases=100)).loc[0, "activity"]
    'Check Documents'
    """
    times = pl.col("times")
    again = (
        ordered_events(log, case, activity, timestamp)
        .group_by("case", "activity", maintain_order=True)
        .agg(times=pl.len().cast(pl.Int64))
        .group_by("activity", maintain_order=True)
        .agg(
            events=times.sum(),
            cases=pl.len().cast(pl.Int64),
            rework_cases=(times > 1).sum().cast(pl.Int64),
            repeats=(times - 1).sum(),
        )
        .with_columns(share=pl.col("rework_cases") / pl.col("cases"))
    )
    return _like(log, again.sort("repeats", "activity", descending=[True, False]))


def _steps(events: pl.DataFrame) -> pl.DataFrame:
    """Each event but the first of a case, with the one before it and the hours between."""
    return (
        events.with_columns(
            before=pl.col("activity").shift().over("case"),
            waited=pl.col("timestamp").diff().over("case"),
        )
        .filter(pl.col("before").is_not_null())
        .select(
            pl.col("before").alias("source"),
            pl.col("activity").alias("target"),
            _hours(pl.col("waited")).alias("hours"),
        )
    )


def _span() -> pl.Expr:
    return pl.col("timestamp").max() - pl.col("timestamp").min()


def _hours(duration: pl.Expr) -> pl.Expr:
    return duration.dt.total_microseconds() / 3.6e9


def _share(part: pl.Expr) -> pl.Expr:
    # Where nothing takes time there is no share of it.
    return pl.when(part.sum() > 0).then(part / part.sum()).otherwise(0.0)


def _like(log: Table, table: pl.DataFrame) -> Table:
    """The table as a frame of the library that the log came in."""
    return cast("Table", frames.to_pandas(table) if frames.is_pandas(log) else table)
