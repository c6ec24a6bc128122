"""The measures of a process, against PM4Py and against a reading of the log event by event."""

import importlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import mean, median
from typing import Any

import pandas as pd
import polars as pl
import pytest

import process_mining_utils as pmu
from mindzie_sdk import sample_event_log

MEASURES: tuple[Callable[..., Any], ...] = (
    pmu.variants,
    pmu.directly_follows_graph,
    pmu.cycle_times,
    pmu.bottlenecks,
    pmu.rework,
)


def generated_log(seed: int, cases: int = 60) -> Any:
    """Loops, cases of one event, times that are equal, and events in no order at all."""
    chance = random.Random(seed)
    rows = []
    for case in range(cases):
        time = datetime(2024, 3, 30, tzinfo=UTC) + timedelta(minutes=chance.randrange(10_000))
        for _ in range(chance.randrange(1, 9)):
            rows.append((f"c{case}", chance.choice("ABCD"), time))
            time += timedelta(seconds=chance.choice((0, 0, 1, 59, 3_600, 86_400)))
    # Of one case events of one time stay in order, as the log is all that tells it.
    rows.sort(key=lambda row: row[2])
    first = chance.randrange(len(rows))
    rows = [*rows[first:], *rows[:first]]
    return pd.DataFrame(rows, columns=["case_id", "activity", "timestamp"])


def logs() -> list[Any]:
    return [
        pytest.param(sample_event_log(250), id="sample"),
        *(pytest.param(generated_log(seed), id=f"generated {seed}") for seed in range(4)),
    ]


def traces(log: Any) -> dict[str, list[tuple[str, datetime]]]:
    """Python's own sort, which keeps the order of the log where times are equal."""
    found: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    for case, activity, time in zip(log["case_id"], log["activity"], log["timestamp"], strict=True):
        found[case].append((activity, time.to_pydatetime()))
    return {case: sorted(events, key=lambda event: event[1]) for case, events in found.items()}


def hours(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds() / 3600


def waits(log: Any) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for events in traces(log).values():
        for (before, since), (after, until) in pairwise(events):
            found[before, after].append(hours(since, until))
    return found


@pytest.fixture(scope="module")
def pm4py() -> Any:
    return importlib.import_module("pm4py")  # it takes seconds


def formatted(pm4py: Any, log: Any) -> Any:
    """As PM4Py wants it: sorted, which its measures take for granted."""
    names = {"case_id": "case_id", "activity_key": "activity", "timestamp_key": "timestamp"}
    return pm4py.format_dataframe(log, **names)


def with_xes_names(log: Any) -> Any:
    names = {
        "case_id": "case:concept:name",
        "activity": "concept:name",
        "timestamp": "time:timestamp",
    }
    return log[list(names)].rename(columns=names)


@pytest.mark.parametrize("log", logs())
def test_variants(log: Any, pm4py: Any) -> None:
    found = pmu.variants(log)
    counted = {tuple(row.variant.split(" → ")): row.cases for row in found.itertuples()}
    assert counted == pm4py.get_variants(formatted(pm4py, log))
    spans: dict[str, list[float]] = defaultdict(list)
    for events in traces(log).values():
        spans[" → ".join(name for name, _ in events)].append(hours(events[0][1], events[-1][1]))
    assert dict(zip(found["variant"], found["mean_hours"], strict=True)) == pytest.approx(
        {variant: mean(values) for variant, values in spans.items()}
    )
    assert list(found["length"]) == [len(text.split(" → ")) for text in found["variant"]]
    assert found["share"].sum() == pytest.approx(1)
    assert list(found["cases"]) == sorted(found["cases"], reverse=True)


@pytest.mark.parametrize("log", logs())
def test_the_directly_follows_graph(log: Any, pm4py: Any) -> None:
    found = pmu.directly_follows_graph(log).set_index(["source", "target"])
    theirs, _, _ = pm4py.discover_dfg(formatted(pm4py, log))
    assert found["count"].to_dict() == theirs
    performance, _, _ = pm4py.discover_performance_dfg(
        formatted(pm4py, log), perf_aggregation_key="all"
    )
    for edge, measured in performance.items():
        assert found.loc[edge, "mean_hours"] * 3600 == pytest.approx(measured["mean"], abs=1e-3)
        assert found.loc[edge, "median_hours"] * 3600 == pytest.approx(measured["median"], abs=1e-3)


@pytest.mark.parametrize("log", logs())
def test_cycle_times(log: Any, pm4py: Any) -> None:
    found = pmu.cycle_times(log)
    assert sorted(found["hours"] * 3600) == pytest.approx(
        sorted(pm4py.get_all_case_durations(formatted(pm4py, log)))
    )
    assert list(found["case_id"]) == list(dict.fromkeys(log["case_id"]))
    by_case = traces(log)
    for row in found.itertuples():
        events = by_case[row.case_id]
        assert (row.start, row.end, row.events) == (events[0][1], events[-1][1], len(events))


@pytest.mark.parametrize("log", logs())
def test_bottlenecks(log: Any) -> None:
    expected: dict[str, list[float]] = defaultdict(list)
    for (_, after), waited in waits(log).items():
        expected[after] += waited
    total = sum(map(sum, expected.values()))
    found = pmu.bottlenecks(log)
    assert set(found["activity"]) == set(expected)
    for row in found.itertuples():
        waited = expected[row.activity]
        assert row.waits == len(waited)
        assert (row.total_hours, row.mean_hours, row.median_hours) == pytest.approx(
            (sum(waited), mean(waited), median(waited))
        )
        assert row.p90_hours == pytest.approx(pd.Series(waited).quantile(0.9))
        assert row.share == pytest.approx(sum(waited) / total)
    assert list(found["total_hours"]) == sorted(found["total_hours"], reverse=True)


@pytest.mark.parametrize("log", logs())
def test_rework(log: Any, pm4py: Any) -> None:
    found = pmu.rework(log).set_index("activity")
    repeated = found[found["rework_cases"] > 0]["rework_cases"].to_dict()
    assert repeated == pm4py.get_rework_cases_per_activity(formatted(pm4py, log))
    events = Counter(log["activity"])
    cases = Counter(log[["case_id", "activity"]].drop_duplicates()["activity"])
    for activity, row in found.iterrows():
        name = str(activity)
        assert (row["events"], row["cases"]) == (events[name], cases[name])
        assert row["repeats"] == events[name] - cases[name]
        assert row["share"] == pytest.approx(row["rework_cases"] / row["cases"])


@pytest.mark.parametrize("measure", MEASURES)
def test_frames_of_polars_get_the_same_answer_in_polars(measure: Callable[..., Any]) -> None:
    log = generated_log(7)
    columns = {name: log[name].to_list() for name in log.columns}
    answer = measure(pl.DataFrame(columns))
    assert isinstance(answer, pl.DataFrame)
    mine = measure(log)
    assert isinstance(mine, pd.DataFrame)
    assert answer.to_dict(as_series=False) == mine.to_dict("list")


@pytest.mark.parametrize("measure", MEASURES)
def test_columns_of_other_names_and_other_columns(measure: Callable[..., Any]) -> None:
    log = generated_log(8)
    expected = measure(log)
    assert measure(with_xes_names(log)).equals(expected), "the names of XES are known"
    renamed = log.rename(columns={"case_id": "order", "activity": "step", "timestamp": "at"})
    renamed["note"] = [{"any": number} for number in range(len(renamed))]
    renamed.index = pd.Index(range(100, 100 + len(log)), name="row")
    given = {"case": "order", "activity": "step", "timestamp": "at"}
    assert measure(renamed, **given).equals(expected)
    with pytest.raises(KeyError, match="no column 'case_id' or 'case:concept:name' for the case"):
        measure(renamed)
    with pytest.raises(KeyError, match="'orders'"):
        measure(renamed, **{**given, "case": "orders"})


@pytest.mark.parametrize("measure", MEASURES)
def test_logs_that_tell_too_little(measure: Callable[..., Any]) -> None:
    log = generated_log(9)
    empty = measure(log.iloc[:0])
    assert len(empty) == 0
    assert list(empty.columns) == list(measure(log).columns)
    assert len(measure(pd.DataFrame({name: [] for name in log.columns}))) == 0
    with pytest.raises(ValueError, match=r"1 of .* events have no 'activity'"):
        measure(log.assign(activity=[None, *log["activity"][1:]]))
    with pytest.raises(TypeError, match="holds no times"):
        measure(log.assign(timestamp=log["timestamp"].astype(str)))
    with pytest.raises(TypeError, match="no list"):
        measure([1])


def test_cases_that_are_numbers_and_days_that_are_times() -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC).date()
    log = pl.DataFrame(
        {
            "case_id": [2, 2, 1],
            "activity": ["B", "A", "A"],
            "timestamp": [day + timedelta(days=1), day, day],
        }
    )
    times = pmu.cycle_times(log)
    assert times["case_id"].to_list() == [2, 1]
    assert times["hours"].to_list() == [24.0, 0.0]
    assert pmu.variants(log)["variant"].to_list() == ["A", "A → B"]
    assert pmu.bottlenecks(log.filter(pl.col("case_id") == 1)).is_empty()


def test_where_nothing_takes_time_no_share_of_it_is_told() -> None:
    log = generated_log(3).assign(timestamp=pd.Timestamp("2024-01-01", tz="UTC"))
    assert set(pmu.bottlenecks(log)["share"]) == {0.0}
