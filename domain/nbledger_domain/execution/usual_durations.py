"""How long runs of a notebook usually take, by the range of cells that they cover.

Usual is the middle half of the last runs: from the lower to the upper quartile, both as Hyndman and
Fan's definition 7 has them ("Sample Quantiles in Statistical Packages", The American Statistician
50(4), 1996, pages 361 to 365), which is the default of R, NumPy and spreadsheets, and ``inclusive``
in Python's ``statistics``. A run that was held up once, or ended at once, does not move them.
"""

import statistics
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UnsetType

from nbledger_domain.execution.values import CellRange

Runs = Mapping[str, Sequence[float]]
"""Seconds that completed runs took, the latest last, by what they covered (see :func:`span`)."""

REMEMBERED_RUNS = 20
"""How many completed runs of a notebook and range the next one is compared with."""

REMEMBERED_SPANS = 20
"""For how many ranges of a notebook runs are remembered; those run last stay."""


class Usual(msgspec.Struct, frozen=True, rename="camel"):
    """The middle half of so many ``runs``, from its ``low`` to its ``high`` end in seconds."""

    runs: int
    low: float
    high: float


def span(cell_range: CellRange | UnsetType | None) -> str:
    """What a run covers, as a key: all, or the cells from one to another."""
    return f"{cell_range.start_cell}..{cell_range.end_cell}" if cell_range else ""


def remember(runs: Runs, covered: str, seconds: float) -> dict[str, Sequence[float]]:
    """``runs`` with one more, and without what is too long ago."""
    kept = {other: durations for other, durations in runs.items() if other != covered}
    kept[covered] = [*runs.get(covered, ()), seconds][-REMEMBERED_RUNS:]
    for other in list(kept)[:-REMEMBERED_SPANS]:
        del kept[other]
    return kept


def likely(durations: Sequence[float]) -> tuple[float, float] | None:
    """The range that a run is likely to take, from ``durations`` of earlier ones in seconds.

    ``None`` when there were none. Of four or more it is the middle half of them, so that a run
    which was held up once spoils no estimate.
    """
    if not durations:
        return None
    if len(durations) >= 4:
        shortest, _, longest = statistics.quantiles(durations, n=4, method="inclusive")
        return shortest, longest
    return min(durations), max(durations)


def usual(durations: Sequence[float]) -> Usual | None:
    """What is usual after ``durations`` of earlier runs in seconds; ``None`` of fewer than four."""
    if len(durations) < 4:
        return None
    low, _, high = statistics.quantiles(durations, n=4, method="inclusive")
    return Usual(len(durations), round(low, 3), round(high, 3))


def least_high(runs: Runs) -> float | None:
    """The least upper end of what is usual for any range; ``None`` where nothing is usual yet."""
    known = [each.high for durations in runs.values() if (each := usual(durations)) is not None]
    return min(known, default=None)


class SlowRule(msgspec.Struct, frozen=True):
    """When a run takes longer than usual.

    That is when it has taken more than ``factor`` times the upper end of what is usual, which at
    least ``least_runs`` runs have to tell, and more than ``least_seconds``. A ``factor`` of 0 is
    never.
    """

    factor: float
    least_runs: int
    least_seconds: float

    def threshold(self, known: Usual | None) -> float | None:
        """The seconds beyond which a run takes too long; ``None`` where that cannot be told."""
        if not self.factor or known is None or known.runs < self.least_runs:
            return None
        return max(self.factor * known.high, self.least_seconds)
