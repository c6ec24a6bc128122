"""A made-up event log, so that a notebook has something to work on from the start."""

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_SEED = 20240115
_START = datetime(2024, 1, 1, 8, tzinfo=UTC)
_CLERKS = ("Ada", "Ben", "Chloe", "Dev", "Elif")
_MANAGERS = ("Mara", "Noor")
_HOURS = {
    "Submit Application": 0.0,
    "Check Documents": 3.0,
    "Request Documents": 20.0,
    "Review Application": 9.0,
    "Manager Approval": 14.0,
    "Send Offer": 2.0,
    "Reject Application": 1.5,
}
"""Mean hours from the step before to this one."""
COLUMNS = ("case_id", "activity", "timestamp", "resource", "amount")


def sample_event_log(cases: int = 400) -> "pd.DataFrame":
    """The first ``cases`` loan applications, one row per event.

    Columns: ``case_id``, ``activity``, ``timestamp`` (UTC), ``resource``, ``amount``.
    """
    import pandas as pd  # noqa: PLC0415 (so that importing the package stays quick)

    rows = [row for number in range(1, cases + 1) for row in _case(number)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _case(number: int) -> list[tuple[str, str, datetime, str, float]]:
    # Each case has its own generator, so that a longer log begins like a shorter one.
    chance = random.Random(_SEED + number)  # noqa: S311 (sample data, not a secret)
    amount = round(chance.lognormvariate(9.6, 0.5), 2)
    time = _START + timedelta(hours=2.5 * number + chance.random())
    rows: list[tuple[str, str, datetime, str, float]] = []
    for activity in _trace(chance, amount):
        time += timedelta(hours=chance.expovariate(1.0) * _HOURS[activity])
        people = _MANAGERS if activity == "Manager Approval" else _CLERKS
        rows.append((f"case-{number:05d}", activity, time, chance.choice(people), amount))
    return rows


def _trace(chance: random.Random, amount: float) -> list[str]:
    trace = ["Submit Application", "Check Documents"]
    while chance.random() < 0.25:
        trace += ["Request Documents", "Check Documents"]
    trace.append("Review Application")
    if amount > 15_000:
        trace.append("Manager Approval")
    trace.append("Send Offer" if chance.random() < 0.7 else "Reject Application")
    return trace
