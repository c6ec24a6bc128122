"""How long runs of a notebook took, by the range of cells that they covered."""

import statistics
from collections.abc import Mapping, Sequence

from msgspec import UnsetType

from nbledger_domain.execution import CellRange

Runs = Mapping[str, Sequence[float]]
"""Seconds that completed runs took, the latest last, by what they covered (see :func:`span`)."""

REMEMBERED_RUNS = 20
"""How many completed runs of a notebook and range the next one is estimated by."""

REMEMBERED_SPANS = 20
"""For how many ranges of a notebook runs are remembered; those run last stay."""


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
