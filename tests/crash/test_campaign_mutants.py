"""Every slip of the hand in ``verify.py`` is found by what is asked of it.

A mutant is the program with one small change. Each must say something else than the program does of
at least one of the bundles of its tests, true and false; but those of which it is argued that they
do the same.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from support.all_forgeries import all_forgeries
from support.campaigns import PROPERTY, times
from support.mutants import Mutant, killer, mutants
from support.verifying import SOURCE, Prepared, prepare, probes, said

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(times(small=300, ci=1200, full=7200))]

MUTANTS: Final = times(small=40, ci=200, full=100_000)

ARGUED: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "no time is as large or as small as that": (
        (r"^NEVER, SINCE, SKEW", "63 -> "),
        (r"^NEVER, SINCE, SKEW", "2 -> 3"),
    ),
    "no number, position or size is below the least one": (
        (r"^self\.last: ", "1 -> 2"),
        (r"^self\.last: ", "0 -> -1"),
    ),
    "no log has so many entries": (
        (r"^return self\.tile\(height", "8 -> 7"),
        (r"^self\.size, self\.since", "-NEVER -> "),
    ),
    "nobody meets the very microsecond": (
        (r"^need\(datetime\.now", "datetime.now(UTC).timestamp() - self.at <= self.age -> "),
    ),
    "the first byte of a time is 0": ((r"^at = int", "4 -> 5"),),
    "a list of one has its last element first": (
        (r"WHERE\[0\]", "0 -> -1"),
        (r"^self\.keys, self\.groups", "1 -> 0"),
        (r"^count = ", "1 -> 0"),
    ),
    "what was read is read again": ((r"^@lru_cache", "16 -> "),),
    "the label is another that no name can be": (
        (r"^once = ", "'quorum ' -> 'quorum ~'"),
        (r"^once = ", "'age ' -> 'age ~'"),
        (r"^once = ", "' ' -> "),
    ),
    "no hash is as short as that": ((r"^leaf = ", "b'' -> "),),
    "the order is another in which the same is looked at or told": (
        (r"^names = sorted\(", "sorted("),
        (r"^print\(\*sorted\(", "sorted("),
        (r"^for name in sorted\(", "sorted("),
        (r"^for WHERE\[0\] in sorted\(", "sorted("),
    ),
    "Python knows the encoding by this name, too": ((r"read_text\(", "'utf-8' -> "),),
    "an entry that is shown twice has its position twice": (
        (r"^need\(number > last", "number > last['number'] -> number >= "),
    ),
}
"""Mutants that do the same: why, and in which lines by which changes, as far as those are told."""


def argued(mutant: Mutant) -> bool:
    return any(
        re.search(line, mutant.line) and mutant.change.startswith(change)
        for which in ARGUED.values()
        for line, change in which
    )


def calls(folder: Path) -> list[Prepared]:
    """Wrong calls, and the help."""
    good = prepare(next(all_forgeries()), folder / "called")
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
    every = [*all_forgeries()]
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
