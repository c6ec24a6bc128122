"""Figures: how rounds become one, how they are printed and written."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

TIMES = "\N{MULTIPLICATION SIGN}"
_TARGETS = {"higher": "≥ {}", "lower": "≤ {}", "faster": "≥ {} faster"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result.

    `ratio` is `value / againstValue`, taken round by round; the other way round where the target
    is to be so many times faster.
    """

    figure: str
    value: float
    unit: str
    against: str
    againstValue: float  # noqa: N815 - the name in bench.json
    ratio: float
    target: str
    met: bool


def alternate(
    sides: Sequence[Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> list[list[float]]:
    """Measure the sides in turn, `rounds` times; one list of values per round.

    A shared machine is fast in one minute and slow in the next. Sides measured in turn share
    what happens to it, so the ratio of one round holds where the values do not. The first
    round, which finds caches cold and pools empty, is measured and thrown away.
    """
    if warm_up:
        for side in sides:
            side()
    return [[side() for side in sides] for _ in range(rounds)]


def compare(
    *,
    figure: str,
    unit: str,
    against: str,
    pairs: Iterable[tuple[float, float]],
    bound: float,
    better: Literal["higher", "lower", "faster"] = "higher",
) -> Figure:
    """The figure of a series of rounds, each a pair (ours, theirs): medians throughout.

    With `faster` the values are times, and ours have to be so many times shorter.
    """
    rounds = list(pairs)
    ratio = statistics.median(
        theirs / ours if better == "faster" else ours / theirs for ours, theirs in rounds
    )
    return Figure(
        figure=figure,
        value=_rounded(statistics.median(ours for ours, _ in rounds)),
        unit=unit,
        against=against,
        againstValue=_rounded(statistics.median(theirs for _, theirs in rounds)),
        ratio=_rounded(ratio),
        target=_TARGETS[better].format(f"{bound:g} {TIMES}"),
        met=ratio <= bound if better == "lower" else ratio >= bound,
    )


def within(*, figure: str, unit: str, values: Iterable[float], bound: float) -> Figure:
    """The figure of a series of rounds that has to stay within a bound; medians throughout."""
    value = statistics.median(values)
    return Figure(
        figure=figure,
        value=_rounded(value),
        unit=unit,
        against="the bound",
        againstValue=bound,
        ratio=_rounded(value / bound),
        target=f"≤ {bound:g} {unit}",
        met=value <= bound,
    )


def _rounded(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")


def write_json(figures: Iterable[Figure], path: Path) -> None:
    """Write the figures as a JSON list of objects."""
    objects = [asdict(figure) for figure in figures]
    path.write_text(json.dumps(objects, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_table(figures: Iterable[Figure]) -> None:
    """Print the figures for a person."""
    table = Table(title="nbledger benchmarks", show_lines=True)
    for name in ("figure", "value", "unit", "against", "its value", "ratio", "target", "met"):
        table.add_column(name, justify="right" if name in {"value", "its value"} else "left")
    for f in figures:
        table.add_row(
            f.figure,
            f"{f.value:,.6g}",
            f.unit,
            f.against,
            f"{f.againstValue:,.6g}",
            f"{f.ratio:.2f} {TIMES}",
            f.target,
            "[green]yes[/]" if f.met else "[red]no[/]",
        )
    # Without a terminal rich assumes 80 columns, too few for these.
    Console(width=None if sys.stdout.isatty() else 180).print(table)
