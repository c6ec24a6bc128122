"""Tasks and callbacks that end the program: the kernel lives on to tell it, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from support.kernels import Recorded, recorded

from nbledger_workers.kernel.protocol import CellStatus, Outcome

OK, ERROR, SKIPPED = CellStatus.SUCCESS, CellStatus.ERROR, CellStatus.SKIPPED

_BEGIN = """
import asyncio, os, sys
loop = asyncio.get_running_loop()
async def end(code):
    print('in the task')
    raise SystemExit(code)
def interrupt(): raise KeyboardInterrupt
"""


def errors(run: Recorded, index: int) -> list[tuple[str, str]]:
    """Name and value of each error that a cell shows."""
    shown = [each for each in run.outputs(index) if each["output_type"] == "error"]
    return [(each["ename"], each["evalue"]) for each in shown]


async def test_what_ends_the_event_loop_is_an_error_of_the_cell_that_runs(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        _BEGIN,
        "print('before'); loop.call_later(0.05, sys.exit, 3); await asyncio.sleep(60)",
        "task = asyncio.create_task(end('bad')); await asyncio.sleep(60)",
        "await asyncio.create_task(end(4))",
        "loop.call_soon(interrupt); await asyncio.sleep(60)",
        "loop.call_soon(loop.stop); await asyncio.sleep(60)",
        # Only after the cell, and before the next one.
        "loop.call_soon(sys.exit, 5)",
        "print('never')",
        "async with asyncio.timeout(30): await asyncio.sleep(0.01)\nprint('goes on')",
        "try: await asyncio.sleep(0)\nfinally: loop.call_soon(sys.exit, 6); 1 / 0",
        "print('never')",
        continue_on_error=True,
        timeout=50.0,
    )
    assert run.finished is not None
    assert (run.finished.outcome, run.finished.warnings) == (Outcome.COMPLETED, [])
    assert run.statuses == [OK, *[ERROR] * 5, OK, ERROR, OK, ERROR, ERROR]
    told = [
        ("SystemExit", "3"),
        ("SystemExit", "bad"),
        ("SystemExit", "4"),
        ("KeyboardInterrupt", ""),
        ("RuntimeError", "the event loop of the kernel was stopped, which goes on now"),
    ]
    assert [errors(run, index) for index in range(1, 6)] == [[each] for each in told]
    assert [run.text(index) for index in (1, 2, 3)] == ["before\n", *["in the task\n"] * 2]
    assert [run.text(index) for index in (7, 8, 10)] == ["", "goes on\n", ""]
    for index, code in ((7, "5"), (10, "6")):
        cell = run.cell(index)
        assert (cell.error_name, cell.error_value) == ("SystemExit", code)
        assert cell.execution_count is None
        assert cell.warnings == [
            "it did not run: a task or a callback of a cell before had ended the program"
        ]
    assert errors(run, 9) == [("ZeroDivisionError", "division by zero")]
    assert not any(run.cell(index).truncated for index in range(11))


async def test_a_clean_end_by_a_task_ends_the_notebook_as_a_cell_s_own(tmp_path: Path) -> None:
    leaving = (
        "import asyncio, atexit\natexit.register(lambda: open('closed', 'w').close())\n"
        "async def leave():\n    print('leaving'); exit()\n"
        "task = asyncio.create_task(leave()); await asyncio.sleep(60)"
    )
    run = await recorded(tmp_path, leaving, "print('never')", timeout=50.0)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.finished.warnings == ["The notebook ended the run itself: 1 cell did not run."]
    assert run.statuses == [OK, SKIPPED]
    assert run.outputs(0) == [{"output_type": "stream", "name": "stdout", "text": "leaving\n"}]
    assert (tmp_path / "closed").exists()


async def test_what_was_printed_comes_before_the_end_however_late_it_is_published(
    tmp_path: Path,
) -> None:
    leaving = (
        "import asyncio, sys, time\n"
        "async def leave():\n"
        "    sys.stdout.pub_thread.io_loop.add_callback(time.sleep, 1)\n"
        "    print('leaving'); sys.exit(%d)\n"
        "task = asyncio.create_task(leave()); await asyncio.sleep(60)"
    )
    printed = {"output_type": "stream", "name": "stdout", "text": "leaving\n"}
    run = await recorded(tmp_path, leaving % 3, leaving % 0, continue_on_error=True, timeout=50.0)
    assert run.statuses == [ERROR, OK]
    assert [each["output_type"] for each in run.outputs(0)] == ["stream", "error"]
    assert run.outputs(1) == [printed]


async def test_a_clean_end_between_two_cells_ends_the_notebook_there(tmp_path: Path) -> None:
    ending = "import asyncio, sys; _ = asyncio.get_running_loop().call_soon(sys.exit)"
    run = await recorded(tmp_path, ending, "print('never')", "print('never')")
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.finished.warnings == ["The notebook ended the run itself: 2 cells did not run."]
    assert run.statuses == [OK, SKIPPED, SKIPPED]
    assert (run.outputs(0), run.outputs(1)) == ([], [])


async def test_a_cell_that_calls_exit_and_awaits_comes_to_its_end(tmp_path: Path) -> None:
    # In a fork the end is its own process's.
    forking = (
        "async def part():\n    if not (pid := os.fork()): sys.exit(7)\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "print(await asyncio.create_task(part()))"
    )
    run = await recorded(
        tmp_path,
        _BEGIN,
        forking,
        "exit(); await asyncio.sleep(0.5); print('all')",
        "print('never')",
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [OK, OK, OK, SKIPPED]
    assert [run.text(index) for index in (1, 2)] == ["7\n", "all\n"]
