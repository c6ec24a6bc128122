"""Notebooks on a real kernel, through the real supervising child."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from support.kernels import Recorded, code, recorded, request

from nbledger_domain.parameters import assignments, find_tagged, inject
from nbledger_workers.kernel.driving.driver import KernelRun, Report
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellStarted,
    CellStatus,
    KernelStarted,
    Outcome,
    OutputsUpdated,
)
from nbledger_workers.kernel.specs import offered_kernels

OK, ERROR, SKIPPED = CellStatus.SUCCESS, CellStatus.ERROR, CellStatus.SKIPPED


async def test_cells_run_in_order_and_report_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_SECRET", "hidden")
    run = await recorded(
        tmp_path,
        "import os, sys; x = 20",
        "print('out'); print('err', file=sys.stderr); print('put'); x + 22",
        {"cell_type": "markdown", "metadata": {}, "source": "# text"},
        code("raise SystemError('never')", "skip-execution"),
        "   ",
        "from IPython.display import clear_output, display\n"
        "handle = display({'text/plain': 'first'}, raw=True, display_id='d')\n"
        "print('gone'); clear_output()\n"
        "_ = display({'text/plain': 'kept'}, raw=True, display_id='d')",
        "display({'text/plain': 'changed'}, raw=True, display_id='d', update=True)",
        "print('10%', end='\\r', flush=True); print('99%', end='\\r', flush=True); print('done')",
        "import json; print(json.dumps(dict(os.environ)))",
        "open('made.txt', 'w').write('x' * 100_000); os.getcwd()",
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [OK, OK, OK, SKIPPED, *[OK] * 6]

    started = run.reports[0]
    assert isinstance(started, KernelStarted)
    assert started.language == "python"
    assert started.language_version == ".".join(map(str, sys.version_info[:3]))
    # Each code cell: started, then finished, in order and never interleaved.
    order = [
        (type(report), report.index)
        for report in run.reports
        if isinstance(report, CellStarted | CellFinished)
    ]
    expected: list[tuple[type, int]] = []
    for index in range(10):
        if index not in (2, 3, 4):
            expected.append((CellStarted, index))
        expected.append((CellFinished, index))
    assert order == expected

    assert run.text(1) == "out\nput\n"
    assert run.text(1, "stderr") == "err\n"
    # In the order written, however fast.
    assert [output.get("text") for output in run.outputs(1)] == ["out\n", "err\n", "put\n", None]
    assert run.outputs(1)[-1] == {
        "output_type": "execute_result",
        "data": {"text/plain": "42"},
        "metadata": {},
        "execution_count": 2,
    }
    second = run.cell(1)
    assert (second.execution_count, second.truncated, second.output_count) == (2, False, 4)
    assert second.started is not None
    assert second.ended is not None
    assert second.duration is not None
    assert second.started < second.ended
    assert 0 < second.duration < 10

    assert [output["data"]["text/plain"] for output in run.outputs(5)] == ["kept"]
    (update,) = [report for report in run.reports if isinstance(report, OutputsUpdated)]
    assert update.index == 5
    assert [msgspec.json.decode(output)["data"] for output in update.outputs] == [
        {"text/plain": "changed"}
    ]
    assert run.text(7) == "done\n"

    environment = msgspec.json.decode(run.text(8))
    assert Path(environment["HOME"]).parent == tmp_path
    assert Path(environment["TMPDIR"]).parent == tmp_path
    assert "WORKER_SECRET" not in environment
    assert run.outputs(9)[0]["data"]["text/plain"] == repr(str(tmp_path))

    assert run.finished.peak_memory_bytes > 30_000_000
    assert 0.01 < run.finished.cpu_seconds < 60
    assert run.finished.disk_bytes > 100_000


async def test_an_error_stops_the_run_and_skips_the_rest(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path, "print('before')", "print('partly'); {}['missing']", "print('never')", "1"
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.CELL_ERROR
    assert run.statuses == [OK, ERROR, SKIPPED, SKIPPED]
    failed = run.cell(1)
    assert (failed.error_name, failed.error_value) == ("KeyError", "'missing'")
    assert "KeyError" in "".join(failed.traceback)
    assert run.text(1) == "partly\n"
    assert run.outputs(1)[-1]["output_type"] == "error"
    assert run.cell(2).started is None


async def test_continue_on_error_runs_every_cell(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "1/0",
        "print('still here')",
        code("raise ValueError('expected')", "raises-exception"),
        "input()",
        "while True: pass",
        "print('after')",
        "import sys; sys.exit(3)",
        "sys.exit(0)",
        "print('never')",
        continue_on_error=True,
        cell_timeout=4.0,
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [ERROR, OK, OK, ERROR, CellStatus.TIMED_OUT, OK, ERROR, OK, SKIPPED]
    assert run.cell(2).error_name == "ValueError"
    assert run.cell(3).error_name == "StdinNotImplementedError"
    assert (run.cell(6).error_name, run.cell(6).error_value) == ("SystemExit", "3")
    # A clean SystemExit ends the program: no error, and what follows is skipped.
    assert run.cell(7).error_name is None
    assert all(output["output_type"] != "error" for output in run.outputs(7))


async def test_a_clean_exit_leaves_no_trace(tmp_path: Path) -> None:
    run = await recorded(tmp_path, "import sys; print('last'); sys.exit()", "1")
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [OK, SKIPPED]
    assert run.outputs(0) == [{"output_type": "stream", "name": "stdout", "text": "last\n"}]


async def test_an_exit_is_clean_as_python_has_it(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "import builtins, sys; sys.exit('0')",
        "sys.exit('None')",
        "sys.exit('')",
        "sys.exit(True)",
        "sys.exit(256)",
        "class SystemExit(Exception): pass",
        "raise SystemExit",
        "raise SystemExit(0)",
        "class Done(builtins.SystemExit): pass",
        "raise Done('bad')",
        "await __import__('asyncio').sleep(0); raise Done(False)",
        "print('never')",
        continue_on_error=True,
    )
    assert run.finished is not None
    assert (run.finished.outcome, run.finished.detail) == (
        Outcome.COMPLETED,
        "a cell ended the program",
    )
    assert run.statuses == [*[ERROR] * 5, OK, ERROR, ERROR, OK, ERROR, OK, SKIPPED]
    assert run.finished.warnings == ["The notebook ended the run itself: 1 cell did not run."]
    assert [run.cell(index).error_value for index in range(5)] == ["0", "None", "", "True", "256"]
    assert run.outputs(10) == []


async def test_exit_hides_nothing_that_comes_after_it(tmp_path: Path) -> None:
    failed = await recorded(tmp_path, "exit()\nraise ValueError('x')", "print('never')")
    assert failed.finished is not None
    assert (failed.finished.outcome, failed.finished.detail) == (
        Outcome.CELL_ERROR,
        "ValueError: x",
    )
    assert failed.statuses == [ERROR, SKIPPED]

    late = "get_ipython().ask_exit()\nimport time; time.sleep(60)"
    timed_out = await recorded(tmp_path, late, "print('never')", cell_timeout=1.0)
    assert timed_out.finished is not None
    assert timed_out.finished.outcome is Outcome.CELL_TIMED_OUT
    assert timed_out.statuses == [CellStatus.TIMED_OUT, SKIPPED]

    def cancel(report: Report, run: Recorded) -> None:
        if isinstance(report, CellStarted):
            run.run.cancel("enough")

    cancelled = Recorded(request(tmp_path, late), cancel)
    assert (await cancelled.result()).outcome is Outcome.CANCELLED
    # Where errors do not end the run, the program's end does.
    going_on = await recorded(tmp_path, "exit()\n1 / 0", "print('never')", continue_on_error=True)
    assert going_on.finished is not None
    assert going_on.finished.detail == "a cell ended the program"
    assert going_on.statuses == [ERROR, SKIPPED]


async def test_an_expected_error_and_exit_are_no_failure(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        code("raise ValueError('expected')", "raises-exception"),
        "import atexit; atexit.register(lambda: open('closed', 'w').close())",
        "exit()",
        "print('never')",
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [OK, OK, OK, SKIPPED]
    assert (tmp_path / "closed").exists()


async def test_chosen_cells_parameters_and_outputs_not_captured(tmp_path: Path) -> None:
    values = {"name": "O'Neil \"\\\n\u202eé", "rate": float("inf"), "nested": [{"a": None}, True]}
    cells = inject(
        [
            code("name = rate = nested = 'default'; extra = 1", "parameters"),
            code("raise SystemError('not chosen')"),
            code(
                "assert (name, rate, nested, extra) == "
                + repr((*values.values(), 1)).replace("inf", "float('inf')")
            ),
            code("print('x' * 1000)"),
        ],
        assignments("python", values),
    )
    assert find_tagged(cells, "injected-parameters") == 1
    run = await recorded(tmp_path, *cells, run=[0, 1, 3, 4], capture_outputs=False)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED, run.finished.detail
    assert run.cell(4).outputs == []
    assert (run.cell(4).output_bytes, run.cell(4).truncated) == (1001, False)


async def test_much_output_is_complete_or_flagged(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "for number in range(100_000): print('line', number)",
        "from IPython.display import display\n"
        "for number in range(1_000): display({'text/plain': str(number)}, raw=True)",
        "print('y' * 3_000_000); display({'text/plain': 'after'}, raw=True)\n"
        "raise ValueError('end')",
        max_output_bytes=2_000_000,
    )
    assert run.text(0).splitlines() == [f"line {number}" for number in range(100_000)]
    assert not run.cell(0).truncated
    texts = [output["data"]["text/plain"] for output in run.outputs(1)]
    assert texts == [str(number) for number in range(1_000)]
    assert not run.cell(1).truncated
    last = run.cell(2)
    assert last.truncated
    assert last.output_bytes > 3_000_000
    assert sum(map(len, last.outputs)) < 2_100_000
    assert run.text(2) == "y" * 2_000_000
    # An error is kept whatever was printed before it.
    assert run.outputs(2)[-1]["ename"] == "ValueError"


async def test_a_kernel_that_cannot_start(tmp_path: Path) -> None:
    run = await recorded(tmp_path, "1", "2", kernel_name="no-such-kernel")
    assert run.finished is not None
    assert run.finished.outcome is Outcome.FAILED_TO_START
    assert "no-such-kernel" in run.finished.detail
    assert run.statuses == [SKIPPED, SKIPPED]


async def test_a_kernel_that_ends_at_its_start_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "kernels" / "broken" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-c", "raise ImportError('broken kernel')", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Broken", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    statuses: list[CellStatus] = []

    async def take(report: Report) -> None:
        if isinstance(report, CellFinished):
            statuses.append(report.status)

    # Without fork servers, whose environment is that of their start.
    run = KernelRun(request(tmp_path, "1", kernel_name="broken"), on_message=take)
    try:
        finished = await run.run()
    finally:
        await run.close()
    assert finished.outcome is Outcome.FAILED_TO_START
    assert "broken kernel" in finished.detail
    assert statuses == [SKIPPED]


async def test_kernels_of_one_fork_server_share_no_random_state(tmp_path: Path) -> None:
    source = """
import json, multiprocessing, random, secrets, tempfile, uuid
import numpy
print(json.dumps({
    "random": random.random(), "instance": random.Random().random(),
    "numpy": numpy.random.random(), "generator": numpy.random.default_rng().random(),
    "uuid1": str(uuid.uuid1()), "uuid4": str(uuid.uuid4()), "secrets": secrets.token_hex(),
    "name": next(tempfile._get_candidate_names()),
    "authkey": multiprocessing.current_process().authkey.hex(),
}))
"""
    seen = []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        seen.append(json.loads((await recorded(folder, source)).text(0)))
    first, second = seen
    assert [name for name in first if first[name] == second[name]] == []


def test_the_running_interpreter_is_offered() -> None:
    offers = offered_kernels()
    assert offers["python3"].language == "python"
    assert offers["python3"].kernelspec == "python3"
    assert set(offers) <= {"python3", "r", "scala"}
    assert offered_kernels({"r": "no-such-kernelspec"}) == {}
