"""Whose turn it is among waiting work of different priorities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nbledger_domain.execution import PRIORITIES, Priority
from nbledger_workers.intake.turns import SHARE, Turns


def served(waiting: dict[Priority, int], count: int, turns: Turns | None = None) -> list[Priority]:
    """What is taken, one after the other, of so much waiting work."""
    turns = turns or Turns()
    left = dict(waiting)
    taken: list[Priority] = []
    for _ in range(count):
        order: Sequence[Priority] = turns.order()
        chosen: Priority | None = next((each for each in order if left.get(each, 0)), None)
        if chosen is None:
            break
        left[chosen] -= 1
        turns.took(chosen)
        taken.append(chosen)
    return taken


def test_high_overtakes_and_everything_comes_to_its_turn() -> None:
    taken = served({"Low": 6, "Normal": 6, "High": 6}, 18)
    assert taken[:6] == ["High"] * 6
    assert taken[6:12].count("Normal") == 5, "one of eight was the share of Low"
    assert taken[7] == "Low"
    assert Counter(taken) == {"Low": 6, "Normal": 6, "High": 6}


def test_lower_classes_share_one_take_of_eight_under_a_stream_of_high() -> None:
    taken = served({"Low": 1000, "Normal": 1000, "High": 1000}, 8 * SHARE)
    assert Counter(taken) == {"High": 7 * SHARE, "Normal": 4, "Low": 4}
    assert served({"Low": 1, "High": 1000}, SHARE).count("Low") == 1
    assert served({"Low": 1000, "Normal": 1000}, 2 * SHARE).count("Low") == 2


def test_a_late_low_waits_no_longer_than_two_shares() -> None:
    for before in range(3 * SHARE):
        turns = Turns()
        served({"High": 1000, "Normal": 1000}, before, turns)
        taken = served({"High": 1000, "Normal": 1000, "Low": 1}, 2 * SHARE, turns)
        assert "Low" in taken


def test_what_is_due_is_not_forgotten_while_nothing_lower_waits() -> None:
    turns = Turns()
    served({"High": 3 * SHARE}, 3 * SHARE, turns)
    assert turns.order()[0] != "High"
    assert served({"High": 5, "Low": 1}, 2, turns) == ["Low", "High"]
    assert set(turns.order()) == set(PRIORITIES)
