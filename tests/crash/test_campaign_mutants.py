"""Every slip of the hand in ``verify.py`` is found by what is asked of it.

A mutant is the program with one small change. Each must say something else than the program does of
at least one of the bundles of its tests, true and false; but those of which it is argued that they
do the same.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from support.campaigns import PROPERTY, times
from support.forged_lines import forged_lines
from support.forgeries import forgeries
from support.mutants import Mutant, killer, mutants
from support.verifying import SOURCE, Prepared, prepare, probes, said

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(times(small=300, ci=1200, full=7200))]

MUTANTS: Final = times(small=40, ci=200, full=100_000)

ARGUED: Final = {
    "no time is so large, nor so small": ("NEVER, SINCE, SKEW = ", "63 -> "),
    "no time is so large, nor so small, whatever it is made of": ("NEVER, SINCE, SKEW = ", "2 -> "),
}
"""Mutants that do the same: why, in which line, and by which change, as far as it is told."""


def argued(mutant: Mutant) -> bool:
    return any(
        mutant.line.startswith(line) and mutant.change.startswith(change)
        for line, change in ARGUED.values()
    )


def calls(folder: Path) -> list[Prepared]:
    """Wrong calls, and the help."""
    good = prepare(next(forgeries()), folder / "called")
    nowhere = str(folder / "nowhere")
    found: list[Prepared] = []
    code = compile(SOURCE.read_text(), str(SOURCE), "exec")
    for arguments in (
        ["--help"],
        [],
        [nowhere],
        [str(good.path), "--policy", nowhere],
        [str(good.path), "--held", nowhere],
    ):
        told = said(code, arguments)
        assert told.endswith(f"status {0 if '--help' in arguments else 2}")
        found.append(Prepared(f"called with {arguments}", good.path, arguments, told))
    return found


@pytest.mark.guarantee("G45")
def test_mutants_of_the_verifier_are_found(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    every = [*forgeries(), *forged_lines()]
    bundles = [prepare(each, tmp_path / str(at)) for at, each in enumerate(every)]
    bundles += [*probes(), *calls(tmp_path)]
    made = list(mutants(SOURCE.read_text()))
    seed = secrets.randbits(32)
    chosen = random.Random(seed).sample(made, min(MUTANTS, len(made)))
    left: list[Mutant] = []
    same = 0
    for mutant in chosen:
        found = killer(mutant, bundles)
        if found is not None:
            # What has found one finds the next one sooner.
            bundles.remove(found)
            bundles.insert(0, found)
        elif argued(mutant):
            same += 1
        else:
            left.append(mutant)
    record_property(
        PROPERTY,
        f"mutants of verify.py (seed {seed}): {len(chosen)} of {len(made)}: "
        f"{len(chosen) - same - len(left)} found, {same} argued to do the same, {len(left)} left",
    )
    assert not left, "\n".join(f"{each.line}\n    {each.change}" for each in left)
