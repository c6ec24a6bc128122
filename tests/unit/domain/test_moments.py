"""Moments of the past, as they are asked for."""

from datetime import UTC, datetime, timedelta

import pytest

from nbledger_domain.past.moments import AtPosition, AtTime, AtVersion, parse, written

AT = datetime(2026, 11, 30, 2, 3, 58, 458_443, tzinfo=UTC)


def test_a_time_that_was_told_is_that_of_what_it_was_told_of() -> None:
    moment = parse(written(AT))
    assert isinstance(moment, AtTime)
    assert AT <= moment.at < AT + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-30T02:03:58Z", AT.replace(microsecond=0)),
        ("2026-11-30T02:03:58.4Z", AT.replace(microsecond=400_000)),
        ("2026-11-30T03:03:58.458+01:00", AT.replace(microsecond=458_999)),
        ("2026-11-30t02:03:58.458443z", AT),
        ("2026-11-30T02:03:58.458443999Z", AT),
    ],
)
def test_times_are_exact_but_for_whole_milliseconds(text: str, at: datetime) -> None:
    assert parse(text) == AtTime(at)


def test_digits_are_a_position_and_three_numbers_a_version() -> None:
    assert parse("17") == AtPosition(17)
    assert parse("1.2.0", versions=True) == AtVersion("1.2.0")
    with pytest.raises(ValueError, match="only notebooks are read as of a version"):
        parse("1.2.0")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be a time with its zone"),
        ("0", "from 1"),
        ("2026-11-30T02:03:58", "must be a time with its zone"),
        ("2026-11-30T02:03:58 01:00", "a \\+ in an address is written %2B"),
        ("2026-13-30T02:03:58Z", "time"),
    ],
)
def test_what_names_no_moment_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)
