"""Cron expressions: which moments they name in which zone, what they say, and why one is none."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from nbledger_domain.schedule import Cron, CronError
from nbledger_domain.schedule.cron import NAMES, split_zone

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # its clocks change at midnight
    "Australia/Lord_Howe",  # by half an hour
    "Antarctica/Troll",  # by two hours
)
STEP = timedelta(minutes=15)
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 366


class Year(NamedTuple):
    """Every quarter of an hour of a year, what clocks show then, the latest they have shown."""

    moments: list[datetime]
    shown: list[datetime]
    latest: list[datetime]


@lru_cache
def year_in(zone: str) -> Year:
    moments = [YEAR + number * STEP for number in range(DAYS * 96)]
    shown = [each.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for each in moments]
    return Year(moments, shown, list(accumulate(shown, max)))


class Fields(NamedTuple):
    """An expression of minutes, hours and weekdays, and what they are."""

    minute: str
    minutes: frozenset[int]
    hour: str
    hours: frozenset[int]
    weekday: str
    weekdays: frozenset[int]

    @property
    def text(self) -> str:
        return f"{self.minute} {self.hour} * * {self.weekday}"

    def names(self, shown: datetime) -> bool:
        return (
            shown.minute in self.minutes
            and shown.hour in self.hours
            and shown.isoweekday() % 7 in self.weekdays
        )


@lru_cache
def changes_in(zone: str) -> list[int]:
    """About when clocks are changed in the year."""
    shown = year_in(zone).shown
    return [
        index
        for index in range(96 * 3, 96 * 350, 4)
        if shown[index + 4] - shown[index] != timedelta(hours=1)
    ]


def oracle(fields: Fields, zone: str) -> list[datetime]:
    """All that the expression names in the year, by trying every quarter of an hour."""
    year = year_in(zone)
    if fields.minute.startswith("*") or fields.hour.startswith("*"):
        return [
            moment
            for moment, shown in zip(year.moments, year.shown, strict=True)
            if fields.names(shown)
        ]
    first, last = year.shown[0], year.latest[-1]
    walls = (first.replace(hour=0, minute=0) + number * STEP for number in range(DAYS * 96 + 96))
    # The first moment at which clocks show the time, or are past it.
    found = {
        year.moments[bisect_left(year.latest, wall)]
        for wall in walls
        if fields.names(wall) and first < wall <= last
    }
    return sorted(found)


def numbers(low: int, high: int, step: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    every = frozenset(range(low, high + 1, step))
    listed = st.sets(st.sampled_from(sorted(every)), min_size=1, max_size=5).map(
        lambda found: (",".join(map(str, sorted(found))), frozenset(found))
    )
    stepped = st.sampled_from([2, 3, 4, 6]).map(
        lambda by: (
            f"*/{by * step}" if step > 1 else f"*/{by}",
            frozenset(range(low, high + 1, by * step)),
        )
    )
    star = st.just((f"*/{step}" if step > 1 else "*", every))
    return st.one_of(listed, stepped, star)


expressions = st.builds(
    lambda minute, hour, weekday: Fields(*minute, *hour, *weekday),
    numbers(0, 59, 15),
    numbers(0, 23, 1),
    st.one_of(
        st.just(("*", frozenset(range(7)))),
        st.sampled_from([("0", frozenset({0})), ("1-5", frozenset(range(1, 6)))]),
    ),
)

EVERY_DAY = ("*", frozenset(range(7)))
HOURS = frozenset(range(24))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "fields",
    [
        Fields("0,30", frozenset({0, 30}), "0-3", frozenset(range(4)), *EVERY_DAY),
        Fields("30", frozenset({30}), "*", HOURS, *EVERY_DAY),
        Fields("0", frozenset({0}), "*/2", frozenset(range(0, 24, 2)), *EVERY_DAY),
        Fields("45", frozenset({45}), "23", frozenset({23}), "0", frozenset({0})),
    ],
    ids=lambda fields: fields.text,
)
def test_a_year_is_as_an_oracle_has_it(fields: Fields, zone: str) -> None:
    expected = oracle(fields, zone)
    start = YEAR + timedelta(days=2)
    end = YEAR + timedelta(days=DAYS - 3)
    wanted = [each for each in expected if start < each <= end]
    found = list(islice(Cron(fields.text, zone).upcoming(start), len(wanted) + 1))
    assert found[:-1] == wanted
    assert found[-1] > end


@settings(max_examples=40, deadline=None)
@given(fields=expressions, zone=st.sampled_from(ZONES), day=st.integers(3, 350), data=st.data())
def test_from_any_moment_the_next_is_the_next(
    fields: Fields, zone: str, day: int, data: st.DataObject
) -> None:
    about = data.draw(st.sampled_from([day * 96, *changes_in(zone)]))
    start = YEAR + STEP * (about + data.draw(st.integers(-100, 100)))
    start += timedelta(minutes=data.draw(st.integers(0, 14)))
    expected = oracle(fields, zone)
    following = expected[bisect_right(expected, start) :][:5]
    if following:
        found = list(islice(Cron(fields.text, zone).upcoming(start), len(following)))
        assert found == following


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    # A range of one number with a step is another thing to croniter.
    ranges = (
        st.tuples(number, number)
        .filter(lambda ends: ends[0] < ends[1])
        .map(lambda ends: f"{ends[0]}-{ends[1]}")
    )
    return st.one_of(
        st.just("*"),
        st.lists(st.one_of(number.map(str), ranges), min_size=1, max_size=3).map(",".join),
        st.tuples(ranges, st.integers(1, 5)).map(lambda both: f"{both[0]}/{both[1]}"),
    )


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join),
    st.integers(0, 5_000_000).map(lambda minutes: YEAR + timedelta(minutes=minutes)),
)
def test_croniter_names_the_same_moments(text: str, start: datetime) -> None:
    found = list(islice(Cron(text).upcoming(start), 3))
    other = croniter(text, start)
    assert found == [other.get_next(datetime) for _ in found]


def after(text: str, zone: str, moment: str) -> str | None:
    found = Cron(text, zone).after(datetime.fromisoformat(moment))
    return None if found is None else found.isoformat()


def test_a_time_that_is_left_out_comes_after_the_gap_and_a_repeated_one_once() -> None:
    berlin = "Europe/Berlin"
    assert after("30 2 * * *", berlin, "2026-03-28T20:00+00:00") == "2026-03-29T01:00:00+00:00"
    assert after("30 2 * * *", berlin, "2026-03-29T01:00+00:00") == "2026-03-30T00:30:00+00:00"
    assert after("30 2 * * *", berlin, "2026-10-24T20:00+00:00") == "2026-10-25T00:30:00+00:00"
    assert after("30 2 * * *", berlin, "2026-10-25T00:30+00:00") == "2026-10-26T01:30:00+00:00"
    # By real time: none in an hour that is left out, two in one that is repeated.
    assert after("30 * * * *", berlin, "2026-03-29T00:30+00:00") == "2026-03-29T01:30:00+00:00"
    assert after("30 * * * *", berlin, "2026-10-25T00:30+00:00") == "2026-10-25T01:30:00+00:00"


def test_it_reads_names_days_and_zones() -> None:
    for name, expression in NAMES.items():
        assert Cron(name.upper()).expression == expression
    assert after("0 0 L * *", "UTC", "2026-02-10T00:00+00:00") == "2026-02-28T00:00:00+00:00"
    assert after("0 0 * * mon#2", "UTC", "2026-02-10T00:00+00:00") == "2026-03-09T00:00:00+00:00"
    assert after("0 0 29 2 *", "UTC", "2026-02-10T00:00+00:00") == "2028-02-29T00:00:00+00:00"
    assert split_zone("CRON_TZ=Europe/Berlin 0 2 * * *") == ("0 2 * * *", "Europe/Berlin")
    assert split_zone(" 0 2 * * * ") == ("0 2 * * *", None)


def test_it_says_what_it_is_in_words() -> None:
    assert Cron("0 2 * * *", "Europe/Berlin").describe() == "At 02:00 every day (Europe/Berlin)"
    assert Cron("@hourly").describe().endswith("(UTC)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("at noon", ["has 2 fields", "five: minute, hour", "@daily"]),
        ("* * * * * *", ["has 6 fields"]),
        ("", ["has 0 fields"]),
        ("60 25 * * *", ["minute: '60'", "0 to 59", "hour: '25'", "0 to 23"]),
        ("* * 0 13 8", ["day of the month: '0'", "month: '13'", "day of the week: '8'"]),
        ("*/0 * * * *", ["minute: '*/0'", "steps (*/n)"]),
        ("5-1 * * * *", ["minute: '5-1'"]),
        ("1,,2 * * * *", ["minute: '1,,2'"]),
        ("0 0 30 2 *", ["never comes"]),
        ("@reboot", ["there is no '@reboot'", "@hourly"]),
        ("0 " * 200, ["at most 200 characters"]),
    ],
)
def test_it_says_which_field_is_wrong_and_what_it_takes(text: str, words: Sequence[str]) -> None:
    with pytest.raises(CronError) as raised:
        Cron(text)
    for word in words:
        assert word in str(raised.value)


def test_a_zone_that_is_none_is_told_with_the_nearest() -> None:
    for zone in ("Europe/Berln", "../etc/passwd", "", "CET+1"):
        with pytest.raises(CronError, match="is no time zone"):
            Cron("@daily", zone)
    with pytest.raises(CronError, match="did you mean Europe/Berlin"):
        Cron("@daily", "Europe/Berln")
