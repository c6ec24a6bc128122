"""What is usual of the lengths of runs, and when a run takes longer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.execution import CellRange
from nbledger_domain.execution.usual_durations import (
    REMEMBERED_RUNS,
    REMEMBERED_SPANS,
    SlowRule,
    Usual,
    least_high,
    remember,
    span,
    usual,
)

lengths = st.floats(min_value=0, max_value=1e6)
RULE = SlowRule(factor=2.0, least_runs=5, least_seconds=5.0)


def seventh(ordered: list[float], share: float) -> float:
    """Hyndman and Fan's definition 7 of a sample quantile."""
    place = (len(ordered) - 1) * share
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


@given(st.lists(lengths, max_size=30))
def test_usual_is_the_middle_half(durations: list[float]) -> None:
    known = usual(durations)
    if len(durations) < 4:
        assert known is None
        return
    assert known is not None
    ordered = sorted(durations)
    assert known.runs == len(durations)
    assert known.low == pytest.approx(seventh(ordered, 0.25), abs=1e-3)
    assert known.high == pytest.approx(seventh(ordered, 0.75), abs=1e-3)
    quarter = math.ceil((len(durations) - 1) / 4)
    assert sum(each < known.low - 1e-3 for each in durations) <= quarter
    assert sum(each > known.high + 1e-3 for each in durations) <= quarter


@given(st.lists(lengths, min_size=8, max_size=20), lengths)
def test_one_that_was_held_up_does_not_move_it_beyond_the_others(
    durations: list[float], outlier: float
) -> None:
    known = usual([*durations, outlier])
    assert known is not None
    assert min(durations) - 1e-3 <= known.high <= max(durations) + 1e-3


@pytest.mark.parametrize(
    ("durations", "threshold"),
    [
        ([10.0] * 4, None),
        ([10.0] * 5, 20.0),
        ([8.0, 9.0, 10.0, 11.0, 12.0], 22.0),
        ([10.0, 10.0, 10.0, 10.0, 500.0], 20.0),
        ([1.0] * 20, 5.0),
        ([0.0] * 5, 5.0),
    ],
)
def test_longer_than_usual(durations: list[float], threshold: float | None) -> None:
    assert RULE.threshold(usual(durations)) == threshold


def test_a_factor_of_0_is_never() -> None:
    assert SlowRule(0.0, 4, 0.0).threshold(Usual(20, 1.0, 1.0)) is None
    assert RULE.threshold(None) is None


@given(st.dictionaries(st.text(max_size=3), st.lists(lengths, max_size=8), max_size=5))
def test_no_range_takes_longer_than_usual_before_the_least_of_all(
    runs: dict[str, list[float]],
) -> None:
    least = least_high(runs)
    found = [known.high for each in runs.values() if (known := usual(each)) is not None]
    assert least == min(found, default=None)


@given(st.lists(st.tuples(st.integers(0, 30), lengths), max_size=200))
def test_what_is_remembered_is_bounded(told: list[tuple[int, float]]) -> None:
    runs: dict[str, list[float]] = {}
    for number, seconds in told:
        runs = {key: list(each) for key, each in remember(runs, str(number), seconds).items()}
    assert len(runs) <= REMEMBERED_SPANS
    for key, kept in runs.items():
        given_ = [seconds for number, seconds in told if str(number) == key]
        assert kept == given_[-len(kept) :]
        assert len(kept) <= REMEMBERED_RUNS


def test_what_a_run_covers() -> None:
    assert span(None) == ""
    assert span(CellRange("a", "b")) == "a..b"
