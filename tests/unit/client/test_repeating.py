"""What is sent again, and when."""

from __future__ import annotations

import msgspec
import pytest

from nbledger_client.core.repeating import Attempts, Retries, may_be_done
from nbledger_client.core.requests import Repeat
from nbledger_client.errors import (
    AnswerNotUnderstoodError,
    ConnectFailedError,
    ConnectionLostError,
    NbledgerError,
    TimedOutError,
    error_of,
)
from nbledger_http.replies.problems import KINDS, Code

NOTHING_DONE = {Code.RATE_LIMITED, Code.QUEUE_FULL, Code.CONFLICT, Code.UNAVAILABLE}


def refused(code: str, status: int, **headers: str) -> NbledgerError:
    return error_of(status, headers, msgspec.json.encode({"code": code}))


def test_codes_say_whether_it_may_have_been_done() -> None:
    for code, kind in KINDS.items():
        expected = False if code in NOTHING_DONE else True if code == "outcome_unknown" else None
        assert may_be_done(refused(code, kind.status)) is expected


@pytest.mark.parametrize(
    ("error", "freely", "never"),
    [
        (ConnectFailedError("", reached=False), True, True),
        (TimedOutError("", reached=True), True, False),
        (ConnectionLostError("", reached=True), True, False),
        (AnswerNotUnderstoodError("", reached=True), False, False),
        (refused("unavailable", 503), True, True),
        (refused("outcome_unknown", 503), True, False),
        (refused("kernel_unavailable", 503), False, False),
        (refused("internal_error", 500), False, False),
        (error_of(502, {}, b"<html>"), True, False),
    ],
)
def test_what_may_have_been_done_is_sent_again_only_where_that_does_no_harm(
    error: NbledgerError, *, freely: bool, never: bool
) -> None:
    for repeat, expected in (
        (Repeat.FREELY, freely),
        (Repeat.BY_KEY, freely),
        (Repeat.NEVER, never),
    ):
        assert (Attempts(Retries(), repeat).again(error) is not None) is expected


def test_pauses_grow_up_to_a_bound_and_never_undercut_what_the_server_asks_for() -> None:
    retries = Retries(attempts=50, first_seconds=1, longest_seconds=4, total_seconds=1e9)
    attempts = Attempts(retries, Repeat.FREELY)
    lost = ConnectionLostError("", reached=True)
    pauses = [attempts.again(lost) for _ in range(40)]
    for index, pause in enumerate(pauses):
        assert pause is not None
        assert 0 <= pause <= min(2.0**index, 4)
    assert len(set(pauses)) > 10
    asked = attempts.again(refused("rate_limited", 429, **{"retry-after": "30"}))
    assert asked is not None
    assert asked >= 30


def test_attempts_and_time_have_an_end() -> None:
    lost = ConnectionLostError("", reached=True)
    attempts = Attempts(Retries(attempts=3), Repeat.FREELY)
    assert [attempts.again(lost) is None for _ in range(3)] == [False, False, True]
    patient = Attempts(Retries(total_seconds=20), Repeat.FREELY)
    assert patient.again(refused("unavailable", 503, **{"retry-after": "21"})) is None
