"""The process that supervises a run is held for seconds while cells put out much."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.campaigns import Tally, conclude, times
from support.kernels import Recorded
from support.stalls import stalled

from nbledger_workers.kernel.protocol import CellStatus

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=300, ci=600, full=3600)),
    pytest.mark.skipif(sys.platform != "linux", reason="holds a process as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

AT_ONCE = times(small=10, ci=5, full=5)
HELD_SECONDS = 3.0
BOUND = times(small=200, ci=60, full=60)
"""At the smallest size many run at once, beside all kinds of tests."""
DISPLAYS, PRINTS = 1_200, 20_000

_WAIT = """
import os, sys, time
from IPython.display import display
open('ready', 'w').close()
while not os.path.exists('held'): time.sleep(0.005)
os.remove('held')
"""
_CELLS = (
    f"{_WAIT}for n in range({DISPLAYS}): display({{'text/plain': str(n)}}, raw=True)",
    f"{_WAIT}for n in range({PRINTS}): print(n, file=(sys.stdout, sys.stderr)[n % 2])",
)

Reports = Callable[[str, object], None]


@pytest.mark.guarantee("G15")
async def test_held_supervisors_lose_nothing(tmp_path: Path, record_property: Reports) -> None:
    """Of each run both cells are counted: the displays of one, the lines of the other."""
    count = times(small=20, ci=20, full=200)
    tallies = {
        what: Tally(f"{what} while the supervisor is held", BOUND, record_property)
        for what in (f"{DISPLAYS:,} displays", f"{PRINTS:,} prints that alternate")
    }
    displays, prints = tallies.values()

    async def trial(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        began = time.monotonic()
        run = await stalled(folder, *_CELLS, seconds=HELD_SECONDS, timeout=300.0, max_outputs=5_000)
        took = time.monotonic() - began
        shown = [output["data"]["text/plain"] for output in run.outputs(0)]
        wanted = [str(n) for n in range(DISPLAYS)]
        displays.took(took, _end(run, 0, whole=shown == wanted))
        written = [run.text(1, name).split() for name in ("stdout", "stderr")]
        lines = [str(n) for n in range(PRINTS)]
        prints.took(took, _end(run, 1, whole=written == [lines[::2], lines[1::2]]))
        for index, tally in enumerate(tallies.values()):
            cell = run.cell(index)
            tally.expect(cell.status is CellStatus.SUCCESS, f"ended as {cell.status}")

    await displays.repeat(count, trial, at_once=AT_ONCE)
    conclude(count, *tallies.values())
    for tally in tallies.values():
        # All of it, not merely flagged.
        assert tally.ends == {"whole": count}


def _end(run: Recorded, index: int, *, whole: bool) -> str:
    """What became of a cell's output; AssertionError where it is lost and that is not told."""
    flagged = run.cell(index).truncated
    assert whole or flagged, f"the output of cell {index} is lost without a word"
    return "flagged" if flagged else "whole"
