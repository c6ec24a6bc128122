"""Timeouts, cancelling and dead kernels: the run ends in time, and no process is left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from support.kernels import Recorded, recorded, request

from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.protocol import CellStarted, CellStatus, KernelStarted, Outcome

pytestmark = pytest.mark.stalls("its runs are stopped by the clock, in steps of seconds")

OK, SKIPPED = CellStatus.SUCCESS, CellStatus.SKIPPED
STUBBORN = """
import signal
print('begun', flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        while True: sum(range(1000))
    except KeyboardInterrupt:
        print('no', flush=True)
"""


async def test_a_cell_that_swallows_every_signal_is_killed_at_its_timeout(tmp_path: Path) -> None:
    run = await recorded(tmp_path, "1", STUBBORN, "3", cell_timeout=1.0, grace=1.0)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.CELL_TIMED_OUT
    assert run.statuses == [OK, CellStatus.TIMED_OUT, SKIPPED]
    assert run.text(1).startswith("begun\n")
    # The timeout, and twice the grace; a busy machine adds to it.
    assert 3.0 <= run.ended - run.started(1) < 20.0


@pytest.mark.guarantee("G12")
async def test_the_run_timeout_covers_a_frozen_kernel(tmp_path: Path) -> None:
    freeze = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    begun = time.monotonic()
    run = await recorded(tmp_path, "1", freeze, "3", timeout=6.0, grace=0.5)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.TIMED_OUT
    assert run.statuses[-1] is SKIPPED
    assert CellStatus.TIMED_OUT in run.statuses
    assert 6.0 <= run.ended - begun < 26.0


async def test_the_run_timeout_includes_the_kernels_start(tmp_path: Path) -> None:
    run = await recorded(tmp_path, "1", timeout=0.05)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.TIMED_OUT
    assert run.statuses == [SKIPPED]


async def test_cancel_interrupts_a_sleeping_cell(tmp_path: Path) -> None:
    def hook(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted) and report.index == 1:
            run.run.cancel("not needed any more")

    sleep = "import subprocess, time\nsubprocess.Popen(['sleep', '99'])\ntime.sleep(60)"
    run = Recorded(request(tmp_path, "print('kept')", sleep, "3"), hook)
    finished = await run.result()
    assert (finished.outcome, finished.detail) == (Outcome.CANCELLED, "not needed any more")
    assert run.statuses == [OK, CellStatus.CANCELLED, SKIPPED]
    assert run.text(0) == "kept\n"
    # Far sooner than it would have ended by itself.
    assert run.ended - run.started(1) < 20.0


async def test_cancel_before_the_start(tmp_path: Path) -> None:
    run = Recorded(request(tmp_path, "1"))
    run.run.cancel("changed my mind")
    finished = await run.result()
    assert finished.outcome is Outcome.CANCELLED
    assert run.statuses == [SKIPPED]


@pytest.mark.parametrize("death", ["os._exit(7)", "os.kill(os.getpid(), 9)"])
async def test_a_dead_kernel_is_noticed_and_earlier_results_are_kept(
    tmp_path: Path, death: str
) -> None:
    # A child in a session of its own must not survive either.
    leave = "import os, subprocess\nsubprocess.Popen(['sleep', '99'], start_new_session=True)"
    run = await recorded(
        tmp_path, "print('kept')", leave, f"print('last', flush=True)\n{death}", "4"
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.KERNEL_DIED
    assert run.statuses == [OK, OK, CellStatus.ERROR, SKIPPED]
    assert run.text(0) == "kept\n"
    assert run.cell(2).error_name == "KernelDied"
    assert ("status 7" if "exit" in death else "SIGKILL") in run.finished.detail
    at = next(i for i, each in enumerate(run.reports) if each is run.cell(2))
    assert run.times[at] - run.started(2) < 15.0


async def test_cancelling_the_task_ends_child_and_kernel(tmp_path: Path) -> None:
    sleeping = asyncio.Event()

    def hook(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted):
            sleeping.set()

    run = Recorded(request(tmp_path, "import time; time.sleep(60)"), hook)
    task = asyncio.create_task(run.result())
    await asyncio.wait_for(sleeping.wait(), 30)
    assert len(family.marked(run.run.token)) == 1
    child = run.run.child_pid
    assert child is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert family.marked(run.run.token) == []
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_an_error_of_the_receiver_ends_the_run_and_is_raised(tmp_path: Path) -> None:
    def hook(report: Report, run: Recorded) -> None:
        if isinstance(report, KernelStarted):
            raise LookupError("the store is gone")  # noqa: TRY004

    run = Recorded(request(tmp_path, "import time; time.sleep(60)"), hook)
    with pytest.raises(LookupError, match="the store is gone"):
        await run.result()
    assert family.marked(run.run.token) == []


async def test_a_killed_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    def hook(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted) and report.index == 1:
            assert run.run.child_pid is not None
            os.kill(run.run.child_pid, signal.SIGKILL)

    spawn = "import subprocess; p = subprocess.Popen(['sleep', '99'])"
    run = Recorded(request(tmp_path, spawn, "while True: pass", "3"), hook)
    finished = await run.result()
    assert finished.outcome is Outcome.SUPERVISOR_LOST
    assert "supervisor lost" in finished.detail
    assert run.statuses == [OK]
    assert run.ended - run.started(1) < 20.0


async def test_held_cells_wait_until_they_are_confirmed(tmp_path: Path) -> None:
    mark = tmp_path / "acted"
    cells = (f"open({str(mark)!r}, 'a').write('x')", "1")
    seen: list[bool] = []

    def confirm(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted):
            seen.append(mark.exists())
            if report.index == 0:
                run.run.confirm()

    confirmed = Recorded(request(tmp_path, *cells, held_cells=[0, 1]), confirm)
    assert (await confirmed.result()).outcome is Outcome.COMPLETED
    assert seen == [False, True]
    assert mark.read_text() == "x"
    mark.unlink()

    def cancel(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted):
            run.run.cancel("enough")

    cancelled = Recorded(request(tmp_path, *cells, held_cells=[0, 1]), cancel)
    assert (await cancelled.result()).outcome is Outcome.CANCELLED
    assert cancelled.statuses == [CellStatus.CANCELLED, CellStatus.SKIPPED]

    assert not mark.exists()


async def test_the_time_of_a_run_stands_still_while_its_first_cell_is_held(tmp_path: Path) -> None:
    # Long enough for the kernel to start on a busy machine.
    seconds = 6.0

    def confirm(report: Report, run: Recorded) -> None:
        # Who confirms waits for a store: that is no time of the notebook's.
        if isinstance(report, CellStarted) and report.index == 0:
            asyncio.get_running_loop().call_later(seconds + 0.5, run.run.confirm)

    cells = ("1", "while True: pass")
    run = Recorded(request(tmp_path, *cells, held_cells=[0], timeout=seconds), confirm)
    assert (await run.result()).outcome is Outcome.TIMED_OUT
    assert run.statuses == [OK, CellStatus.TIMED_OUT]
