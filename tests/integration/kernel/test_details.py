"""What is told of a run that ended early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.kernels import code, recorded

from nbledger_workers.kernel.protocol import Outcome


def named(cell_id: str, source: str) -> dict[str, Any]:
    return {**code(source), "id": cell_id}


async def test_the_cell_that_timed_out_is_named(tmp_path: Path) -> None:
    cells = [named("quick", "1"), named("slow-one", "import time; time.sleep(60)")]
    run = await recorded(tmp_path, *cells, cell_timeout=1.0)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.CELL_TIMED_OUT
    assert run.finished.detail == "the cell slow-one took longer than 1 second"


async def test_a_run_of_one_second_is_told_so(tmp_path: Path) -> None:
    run = await recorded(tmp_path, "import time; time.sleep(60)", timeout=1.0)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.TIMED_OUT
    assert run.finished.detail == "the run took longer than 1 second"


async def test_a_dead_kernel_is_told_with_its_own_words_only(tmp_path: Path) -> None:
    # Past ipykernel, which passes on what is written to stderr a moment later.
    speak = "import os, sys; os.write(sys.stderr._original_stdstream_copy, b'its own words')"
    said = await recorded(tmp_path, f"{speak}; os._exit(3)")
    assert said.finished is not None
    assert said.finished.outcome is Outcome.KERNEL_DIED
    assert said.finished.detail == "the kernel's process ended with status 3: its own words"
    silent = await recorded(tmp_path, "import os; os._exit(3)")
    assert silent.finished is not None
    assert silent.finished.detail == "the kernel's process ended with status 3"
