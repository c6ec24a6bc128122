"""Durations, sizes and times as the API words them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.execution import usual_durations
from nbledger_projections.read_models import humanize


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0.5 seconds"),
        (3.2, "3.2 seconds"),
        (0.0, "0.0 seconds"),
        (-0.1, "0.0 seconds"),
        (0.004, "0.004 seconds"),
        (0.0004, "0.0 seconds"),
        (0.05, "0.05 seconds"),
        (0.0994, "0.099 seconds"),
        (0.0996, "0.1 seconds"),
        (1.0, "1.0 seconds"),
        (59.94, "59.9 seconds"),
        (59.96, "1 minute"),
        (60.0, "1 minute"),
        (1020.0, "17 minutes"),
        (510.0, "8.5 minutes"),
        (3598.0, "1 hour"),
        (3600.0, "1 hour"),
        (15120.0, "4.2 hours"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert humanize.duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e6))
def test_a_duration_is_a_number_and_a_unit_close_to_the_truth(seconds: float) -> None:
    number, unit = humanize.duration(seconds).split(" ")
    factor = {"second": 1, "minute": 60, "hour": 3600}[unit.removesuffix("s")]
    assert abs(float(number) * factor - seconds) <= max(0.05 * factor, 0.0005) * 1.000001


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (12_345, "12 KB"),
        (450_000_000, "450 MB"),
        (999_600_000, "1 GB"),
        (2_300_000_000, "2.3 GB"),
        (9_960_000_000, "10 GB"),
        (3 * 10**12, "3 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert humanize.size(count) == text


@pytest.mark.parametrize(
    ("durations", "text"),
    [
        ([915.0, 1190.0], "15-20 minutes"),
        ([0.4], "0-1 seconds"),
        ([0.0], "0-1 seconds"),
        ([2.5, 3.5], "2-4 seconds"),
        ([60.0], "60 seconds"),
        ([300.0], "5 minutes"),
        ([30.0, 90.0], "0-2 minutes"),
        ([5000.0, 9000.0], "1-3 hours"),
        # The middle half of four or more.
        ([1.0, 905.0, 1000.0, 1190.0, 90_000.0], "15-20 minutes"),
        ([600.0, 660.0, 720.0], "10-12 minutes"),
    ],
)
def test_estimates(durations: list[float], text: str) -> None:
    likely = usual_durations.likely(durations)
    assert likely is not None
    assert humanize.Estimate(likely).words() == humanize.estimate(*likely) == text


def test_nothing_is_estimated_without_earlier_runs() -> None:
    assert usual_durations.likely([]) is None


def test_times_have_one_width_and_so_sort_as_text() -> None:
    whole = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
    later = whole.replace(microsecond=123_999)
    assert humanize.timestamp(whole) == "2024-01-20T10:30:00.000Z"
    assert humanize.timestamp(later) == "2024-01-20T10:30:00.123Z"
