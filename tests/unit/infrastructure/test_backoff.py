"""Pauses between attempts grow, have an end, and begin anew."""

from nbledger_infrastructure.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(0.1, 1.0)
    assert [backoff.fail() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.failures == 6
    backoff.reset()
    assert (backoff.failures, backoff.fail()) == (0, 0.1)


def test_an_outage_of_years_is_waited_out() -> None:
    backoff = Backoff(0.5, 30.0)
    backoff.failures = 10_000_000
    assert backoff.fail() == 30.0


async def test_waiting_counts() -> None:
    backoff = Backoff(0.0, 0.0)
    await backoff.wait()
    assert backoff.failures == 1
