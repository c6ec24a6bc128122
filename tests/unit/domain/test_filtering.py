"""The filter of executions: what it says, how it is read and written, and what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.filters import NOTEBOOKS, START, filters

from nbledger_domain.filtering import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Comparison,
    Facts,
    Filter,
    FilterError,
    Not,
    Present,
    matches,
    parse,
    printed,
)
from nbledger_domain.filtering.parsing import MAX_CONDITIONS, MAX_DEPTH, MAX_LENGTH

ERROR, NIGHTLY = Comparison("status", "=", "Error"), Comparison("tag", "=", "nightly")
RUN = Facts(
    status="Error",
    phase=None,
    termination_code="cell_error",
    tags=("nightly", "eu"),
    notebook_id=NOTEBOOKS[0],
    requested_by="ann",
    cause="schedule",
    requested=START,
    started=START + timedelta(seconds=1),
    ended=START + timedelta(seconds=9),
)
WAITS = Facts(
    status="Running",
    phase="Queued",
    termination_code=None,
    tags=(),
    notebook_id=NOTEBOOKS[1],
    requested_by="bob",
    cause="request",
    requested=START,
    started=None,
    ended=None,
)


@given(filters)
def test_what_is_written_reads_as_the_same(wanted: Filter) -> None:
    text = printed(wanted)
    assert parse(text) == wanted, text


@pytest.mark.parametrize("inner", ["tag:a", "NOT (tag:a OR tag:b)"])
def test_what_is_nested_as_deep_as_may_be_is_written_no_deeper(inner: str) -> None:
    text, levels = inner, MAX_DEPTH - inner.count("(")
    for _ in range(levels):
        text = f"(tag:b OR {text} AND tag:c OR tag:d)"
    wanted = parse(text)
    assert parse(printed(wanted)) == wanted
    assert printed(parse("(tag:b OR tag:c) AND tag:d")) == 'tag = "b" OR tag = "c" AND tag = "d"'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", EVERYTHING),
        ("  ", EVERYTHING),
        ("status=Error", ERROR),
        ('status : "Error"', ERROR),
        ("tag:'nightly'", NIGHTLY),
        ("status=Error AND tag:nightly", AllOf((ERROR, NIGHTLY))),
        # AIP-160: OR binds more tightly.
        ("status=Error AND tag:nightly OR tag:nightly", AllOf((ERROR, AnyOf((NIGHTLY, NIGHTLY))))),
        ("(status=Error AND tag:nightly)OR tag:nightly", AnyOf((AllOf((ERROR, NIGHTLY)), NIGHTLY))),
        ("-status=Error", Not(ERROR)),
        ("NOT(status=Error)", Not(ERROR)),
        ("NOT tag:*", Not(Present("tag"))),
        ('tag:"*"', Comparison("tag", "=", "*")),
        (
            "requested>=2024-01-20T11:30:00.5+01:00",
            Comparison("requested", ">=", datetime(2024, 1, 20, 10, 30, 0, 500_000, tzinfo=UTC)),
        ),
        (f"notebook={NOTEBOOKS[0]}", Comparison("notebook", "=", NOTEBOOKS[0])),
    ],
)
def test_texts_that_read_as_filters(text: str, wanted: Filter) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("stauts = Error", 1, "did you mean status?"),
        ("tag:x AND colour = red", 11, "there are status, phase"),
        ("status = Eror", 10, "did you mean Error?"),
        ("status > Error", 8, "has no order; it can be compared by = != :"),
        ("status == Error", 8, "did you mean =?"),
        ("status =ne= Error", 8, "did you mean !=?"),
        ("status", 7, "one of = != : is expected after status"),
        ("status =", 9, "a value is expected"),
        ("status = Error tag:x", 16, "AND or OR is expected"),
        ("status = Error and tag:x", 16, "did you mean AND?"),
        ("status = Error && tag:x", 16, "did you mean AND?"),
        ("status = Error AND", 19, "a condition is expected"),
        ("AND status = Error", 1, "a condition is expected before it"),
        ("not status = Error", 1, "did you mean NOT?"),
        ("(status = Error", 1, "is not closed"),
        ("status = Error)", 15, "there is no parenthesis to close"),
        ("()", 2, "a condition is expected"),
        ('requestedBy = "ann', 15, "the quotation mark is not closed"),
        ("tag:night*", 5, "* stands alone after a colon"),
        ("notebook = 7", 12, "a GUID"),
        ("requested > 2024-01-20", 13, "a time with its zone"),
        ('requested > "2024-02-30T00:00:00Z"', 13, "not a valid time"),
        ('ended < "2024-01-20T10:30:00"', 9, "a time with its zone"),
        ("tag:x" + " OR tag:x" * MAX_CONDITIONS, 10 + 9 * (MAX_CONDITIONS - 1), "more than 100"),
        ("(" * (MAX_DEPTH + 1) + "tag:x", MAX_DEPTH + 1, "nested more than 20 deep"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH + 1, "more than 4,000 characters"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(FilterError) as refused:
        parse(text)
    assert refused.value.faults[-1].position == position
    assert words in str(refused.value.faults[-1])


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(FilterError) as refused:
        parse("stauts = Error AND phase = Waiting AND cause > x")
    assert [fault.position for fault in refused.value.faults] == [1, 28, 46, 48]


@given(st.text(max_size=30) | st.text(alphabet="statugORND() =:\"-'!<*", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    places: list[int] = []
    try:
        assert parse(printed(parse(text))) == parse(text)
    except FilterError as refused:
        places = [fault.position for fault in refused.faults]
    assert all(1 <= place <= len(text) + 1 for place in places)


@pytest.mark.parametrize(
    ("text", "of_run", "of_waiting"),
    [
        ("status = Error", True, False),
        ("status != Error", False, True),
        ("tag:nightly AND tag:eu", True, False),
        ("NOT tag:nightly", False, True),
        ("tag != eu", False, True),
        ("terminationCode != success", True, True),
        ("phase:*", False, True),
        ("NOT tag:*", False, True),
        ("started > 2024-01-20T10:30:00Z", True, False),
        # Neither before nor after what it has not.
        ("started > 2024-01-20T10:30:00Z OR started <= 2024-01-20T10:30:00Z", True, False),
        ("NOT ended < 2024-01-20T10:30:00Z", True, True),
        ("cause = schedule OR requestedBy = bob", True, True),
        (f"notebook = {NOTEBOOKS[0]}", True, False),
    ],
)
def test_what_a_filter_says(text: str, of_run: Any, of_waiting: Any) -> None:
    assert [matches(parse(text), facts) for facts in (RUN, WAITS)] == [of_run, of_waiting]


def test_an_id_is_read_as_one() -> None:
    (found,) = [parse(f"notebook:{str(NOTEBOOKS[0]).upper()}")]
    assert isinstance(found, Comparison)
    assert found.value == UUID(int=1)
