"""How kernels end: what they still have to write is written before anything is collected."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from support.kernels import Recorded, recorded, request

from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.protocol import (
    CellStarted,
    CellStatus,
    Outcome,
    OutputsUpdated,
    RunFinished,
)

pytestmark = pytest.mark.stalls("its runs are stopped by the clock, in steps of seconds")

OK = CellStatus.SUCCESS
MAY_LACK = "The output of the last cell may not be whole: {}."


async def finished(run: Recorded) -> tuple[RunFinished, dict[str, str], bool]:
    """Run to the end: the report of it, files in `outputs/` then, and whether the kernel lives."""
    try:
        end = await run.run.run()
        outputs = Path(run.run.folder or "") / "outputs"
        files = {path.name: path.read_text() for path in outputs.glob("*.txt")}
        lives = bool(family.marked(run.run.token))
    finally:
        await run.run.close()
    assert family.marked(run.run.token) == []
    return end, files, lives


LEAVES_MUCH = """
import atexit, ctypes, logging, subprocess, threading, time
f = open('outputs/unclosed.txt', 'w'); f.write('a,b')
ring = [open('outputs/ring.txt', 'w')]; ring.append(ring); _ = ring[0].write('ring'); del ring
atexit.register(lambda: open('outputs/hook.txt', 'w').write('hook'))
handler = logging.FileHandler('outputs/log.txt'); handler.stream.write('logged')
class Writer:
    def __del__(self): open('outputs/finalized.txt', 'w').write('finalized')
writer = Writer()
# --
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fputs(b'by C', ctypes.c_void_p(libc.fopen(b'outputs/c.txt', b'w')))
# --
release = threading.Event()
def late():
    release.wait(); time.sleep(0.2); open('outputs/thread.txt', 'w').write('late')
threading.Thread(target=late).start()
# --
child = subprocess.Popen(['sh', '-c', 'printf child > outputs/child.txt'])
release.set()
"""


async def test_what_a_kernel_has_to_finish_is_in_its_files(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    end, files, lives = await finished(Recorded(request(tmp_path, *LEAVES_MUCH.split("# --\n"))))
    assert (end.outcome, end.warnings, lives) == (Outcome.COMPLETED, [], False)
    assert files == {
        "unclosed.txt": "a,b",
        "ring.txt": "ring",
        "hook.txt": "hook",
        "log.txt": "logged",
        "finalized.txt": "finalized",
        "c.txt": "by C",
        "thread.txt": "late",
        "child.txt": "child",
    }


async def test_a_failed_run_ends_in_order_too_and_an_ordinary_one_need_not_wait(
    tmp_path: Path,
) -> None:
    (tmp_path / "outputs").mkdir()
    failing = "f = open('outputs/half.txt', 'w'); f.write('half'); 1 / 0"
    end, files, lives = await finished(Recorded(request(tmp_path, failing)))
    assert (end.outcome, files, lives) == (Outcome.CELL_ERROR, {"half.txt": "half"}, False)

    ordinary = (
        "import pandas as pd; pd.DataFrame({'a': [1]}).to_csv('outputs/closed.txt'); print('x')",
        "with open('outputs/half.txt') as f: assert f.read() == 'half'",
        "open('outputs/half.txt')",
        "!true",
    )
    end, files, lives = await finished(Recorded(request(tmp_path, *ordinary)))
    # What is buffered nowhere cannot be lost: nobody waits for the end of such a kernel.
    assert (end.outcome, end.warnings, lives) == (Outcome.COMPLETED, [], True)
    assert files["closed.txt"] == ",a\n0,1\n"


async def test_the_orderly_end_has_a_bound_and_what_it_cuts_is_told(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    endless = (
        "import atexit, subprocess, threading, time\n"
        "atexit.register(lambda: open('outputs/hook.txt', 'w').write('hook'))\n"
        "f = open('outputs/unclosed.txt', 'w'); f.write('kept')\n"
        "threading.Thread(target=time.sleep, args=(600,), name='endless').start()\n"
        "children = [subprocess.Popen(['sleep', '600']) for _ in range(103)]"
    )
    end, files, _ = await finished(Recorded(request(tmp_path, endless, exit_seconds=3.0)))
    assert end.outcome is Outcome.COMPLETED
    # Threads must not keep exit hooks from running.
    assert files == {"hook.txt": "hook", "unclosed.txt": "kept"}
    threads, left = end.warnings
    assert threads == (
        "The notebook's threads were not waited for longer than 2.1 seconds: the thread 'endless'."
    )
    assert left == (
        "103 processes that the notebook left running had to be ended when it ended: "
        "sleep and others."
    )

    hanging = "import atexit, time; atexit.register(time.sleep, 600); x = 1"
    end, _, _ = await finished(Recorded(request(tmp_path, hanging, exit_seconds=0.5)))
    assert end.outcome is Outcome.COMPLETED
    warning, lacks = end.warnings
    assert warning == (
        "The notebook's exit hooks, threads and open files were not waited for to the end:"
        " it took longer than 0.5 seconds (exit hooks)."
    )
    assert lacks == MAY_LACK.format("the kernel was ended before it had sent all of it")


async def test_a_cancelled_run_writes_out_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()

    def cancel(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted) and report.index == 1:
            run.run.cancel("enough")

    asked = request(
        tmp_path,
        "f = open('outputs/half.txt', 'w'); f.write('half')",
        "import time; time.sleep(60)",
    )
    end, files, _ = await finished(Recorded(asked, cancel))
    assert (end.outcome, end.warnings) == (Outcome.CANCELLED, [])
    assert files == {"half.txt": "half"}


async def test_a_stop_cuts_the_orderly_end(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    def see(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted):
            waiting.set()

    hanging = "import atexit, time; atexit.register(time.sleep, 600); x = 1"
    run = Recorded(request(tmp_path, hanging, exit_seconds=60.0, timeout=8.0), see)
    end = await run.result()
    assert end.outcome is Outcome.COMPLETED
    warning, _ = end.warnings
    assert "the run took longer than 8 seconds (exit hooks)" in warning
    assert run.statuses == [OK]


async def test_tasks_that_are_pending_at_the_end_are_told(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "import asyncio\nasync def fetch(seconds): await asyncio.sleep(seconds)\n"
        "class Feed:\n    async def poll(self): await asyncio.Event().wait()",
        "tasks = [asyncio.create_task(each) for each in (fetch(600), fetch(601), Feed().poll())]",
        "await fetch(0.01)",
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    (told,) = run.finished.warnings
    assert told == (
        "3 asyncio tasks that the notebook left pending had to be cut when it ended: "
        "Feed.poll, fetch."
    )
    ordinary = await recorded(
        tmp_path,
        "import asyncio\nfrom comm import create_comm\ncomm = create_comm(target_name='x')",
        "async def work(): await asyncio.sleep(0.01)\n"
        "await asyncio.gather(work(), work()); await asyncio.wait_for(work(), 5)\n"
        "await asyncio.to_thread(print, 'x')",
        # What is cancelled, and not waited for, is about to end.
        "task = asyncio.create_task(asyncio.sleep(600)); await asyncio.sleep(0); task.cancel()",
    )
    assert ordinary.finished is not None
    assert (ordinary.statuses, ordinary.finished.warnings) == ([OK] * 3, [])


@pytest.mark.guarantee("G13")
async def test_a_fork_that_falls_out_of_its_cell_ends(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "import os; pid = os.fork()",
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
        "print('alone')",
    )
    assert run.statuses == [OK, OK, OK]
    assert [run.text(index) for index in (1, 2)] == ["0\n", "alone\n"]


def updates(run: Recorded) -> list[OutputsUpdated]:
    return [each for each in run.reports if isinstance(each, OutputsUpdated)]


def late_text(run: Recorded) -> dict[str, str]:
    """Text by stream of the last cell, as the one report after its end has it."""
    (report,) = updates(run)
    text = {"stdout": "", "stderr": ""}
    for output in map(msgspec.json.decode, report.outputs):
        text[output["name"]] += output["text"]
    return text


PUTS_OUT_LATE = """
import atexit, os, subprocess, sys, threading, weakref
class Kept: pass
kept = sys.modules['kept'] = Kept()
weakref.finalize(kept, sys.stdout.write, 'finalized\\n')
atexit.register(lambda: os.write(1, b'by descriptor\\n'))
atexit.register(lambda: subprocess.run(['sh', '-c', 'echo by a child >&2']))
atexit.register(lambda: 1 / 0)
atexit.register(lambda: print('hook'))
def late(before, flush):
    before.join()
    print('flushed' if flush else 'buffered', flush=flush)
    raise RuntimeError('boom')
# The main thread has ended when the kernel ends in order, and not before.
one = threading.Thread(target=late, args=(threading.main_thread(), True))
two = threading.Thread(target=late, args=(one, False))
one.start(); two.start()
print('now')
# --
x = 1
"""


@pytest.mark.guarantee("G15")
async def test_what_is_put_out_while_the_kernel_ends_stays_with_the_last_cell(
    tmp_path: Path,
) -> None:
    run = await recorded(tmp_path, *PUTS_OUT_LATE.split("# --\n"))
    assert run.finished is not None
    assert (run.finished.outcome, run.finished.warnings) == (Outcome.COMPLETED, [])
    assert (run.text(0), run.text(1)) == ("now\n", "")
    (report,) = updates(run)
    assert (report.index, report.truncated) == (1, False)
    text = late_text(run)
    written = ["buffered", "by descriptor", "finalized", "flushed", "hook"]
    assert sorted(text["stdout"].splitlines()) == written
    assert text["stderr"].count("RuntimeError: boom\n") == 2
    assert text["stderr"].count("ZeroDivisionError: division by zero\n") == 1
    assert text["stderr"].count("by a child\n") == 1


@pytest.mark.guarantee("G15")
async def test_much_is_put_out_while_the_kernel_ends(tmp_path: Path) -> None:
    much = (
        "import atexit; atexit.register(lambda: print(('x' * 99 + '\\n') * 150_000, end='')); None"
    )
    run = await recorded(tmp_path, much, max_output_bytes=20_000_000)
    assert run.finished is not None
    (report,) = updates(run)
    assert (run.finished.warnings, report.truncated) == ([], False)
    assert report.output_bytes == 15_000_000
    assert len(late_text(run)["stdout"]) == 15_000_000


@pytest.mark.guarantee("G15")
@pytest.mark.parametrize(
    ("ends", "why"),
    [
        # It ends the process, with text in its buffers.
        ("os._exit(0)", "the kernel ended and had not told that all of it was sent"),
        ("os.kill(os.getpid(), 9)", "the kernel ended and had not told that all of it was sent"),
        ("time.sleep(600)", "the kernel was ended before it had sent all of it"),
    ],
)
async def test_output_that_a_kernel_may_not_have_sent_at_its_end_is_flagged(
    tmp_path: Path, ends: str, why: str
) -> None:
    source = f"import atexit, os, time; atexit.register(lambda: (print('bye'), {ends}))"
    run = await recorded(tmp_path, source, exit_seconds=2.0)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.finished.warnings[-1] == MAY_LACK.format(why)
    report = updates(run)[-1]
    assert (report.index, report.truncated) == (0, True)
