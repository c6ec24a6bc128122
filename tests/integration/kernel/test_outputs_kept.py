"""Nothing that a cell puts out is lost: on real kernels, through the real supervising child."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jupyter_client.kernelspec import find_kernel_specs
from support.kernels import Recorded, code, recorded, request

from nbledger_domain.output_digest import block
from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.outputs.forms import forms
from nbledger_workers.kernel.protocol import (
    CellStatus,
    Outcome,
    OutputPart,
    OutputsSoFar,
    OutputsUpdated,
    WidgetsLeft,
)

OK, ERROR = CellStatus.SUCCESS, CellStatus.ERROR

_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)


def digest_of(outputs: list[dict[str, Any]]) -> str:
    """The digest of outputs, from what is kept of them."""
    digest = hashlib.sha256()
    for output in outputs:
        told = [(kind, hashlib.sha256(each).hexdigest(), len(each)) for kind, each in forms(output)]
        digest.update(
            block(
                output["output_type"],
                told,
                stream=output.get("name"),
                metadata=output.get("metadata"),
            )
        )
    return digest.hexdigest()


async def test_a_million_lines_and_five_hundred_pictures(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "for number in range(1_000_000): print(number)",
        "from IPython.display import Image, display\nimport base64\n"
        f"png = base64.b64decode({_PNG!r})\n"
        "for number in range(500): display(Image(png), metadata={'number': number})",
        timeout=240.0,
    )
    assert run.text(0) == "".join(f"{number}\n" for number in range(1_000_000))
    pictures = run.outputs(1)
    assert [output["metadata"]["number"] for output in pictures] == list(range(500))
    for index, count in ((0, 1), (1, 500)):
        cell = run.cell(index)
        assert (cell.output_count, cell.truncated) == (count, False)
        assert cell.output_bytes == sum(
            len(content) for output in run.outputs(index) for _, content in forms(output)
        )
        assert cell.outputs_digest == digest_of(run.outputs(index))


_LONG = """
line = 'x' * 999_999
for number in range(100): print(line, flush=True)
"""


async def test_a_hundred_megabytes_are_kept_whole_where_the_limit_allows_it(tmp_path: Path) -> None:
    """Piece by piece: neither side ever holds the whole."""
    digest = hashlib.sha256()
    sizes: list[int] = []

    def take(report: Report, run: Recorded) -> None:
        if isinstance(report, OutputPart):
            digest.update(report.data)
            sizes.append(len(report.data))
            # Not remembered either.
            run.reports.remove(report)
            run.times.pop()

    wanted = request(
        tmp_path,
        _LONG,
        timeout=240.0,
        max_output_bytes=200_000_000,
        max_output_bytes_per_run=200_000_000,
    )
    run = Recorded(wanted, take)
    await run.result()
    cell = run.cell(0)
    assert (cell.status, cell.output_bytes, cell.truncated) == (OK, 100_000_000, False)
    (rest,) = [msgspec.json.decode(output) for output in cell.outputs]
    digest.update(rest["text"].encode())
    assert sum(sizes) + len(rest["text"]) == 100_000_000
    assert max(sizes) <= 1 << 20
    assert digest.hexdigest() == hashlib.sha256((b"x" * 999_999 + b"\n") * 100).hexdigest()


async def test_what_is_beyond_a_limit_is_flagged_and_the_run_goes_on(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        _LONG.replace("100", "25"),
        "print('y' * 999_999)\nprint('z' * 999_999)",
        "from IPython.display import display\nfor _ in range(5): display(1)",
        "1 / 0",
        code("2 + 2"),
        max_output_bytes=2_000_000,
        max_output_bytes_per_run=3_000_000,
        max_outputs=3,
        continue_on_error=True,
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [OK, OK, OK, ERROR, OK]
    flags = [(run.cell(i).output_bytes, run.cell(i).truncated) for i in range(2)]
    # The second cell is within its own limit, and beyond that of the run.
    assert flags == [(25_000_000, True), (2_000_000, True)]
    assert run.text(0) == ("x" * 999_999 + "\n") * 2
    assert run.text(1) == "y" * 999_999 + "\n"
    assert (run.cell(2).output_count, run.outputs(2), run.cell(2).truncated) == (5, [], True)
    # Errors are kept whatever was before.
    assert run.outputs(3)[0]["ename"] == "ZeroDivisionError"
    whole = hashlib.sha256(("x" * 999_999 + "\n").encode() * 25).hexdigest()
    told = [("text/plain", whole, 25_000_000)]
    by_hand = hashlib.sha256(block("stream", told, stream="stdout")).hexdigest()
    assert run.cell(0).outputs_digest == by_hand != digest_of(run.outputs(0))


# What other programs write goes through pipes, which threads of the kernel read when they can.
_TAKEN = """
import fcntl, termios, time
while any(any(fcntl.ioctl(fd, termios.FIONREAD, bytes(4))) for fd in (1, 2)): time.sleep(0.01)
time.sleep(0.3)
"""


async def test_what_front_ends_do_with_outputs(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "import os, subprocess, sys, threading\nfrom IPython.display import clear_output, display",
        "os.system('echo from a shell')\nsubprocess.run(['echo', 'from a child'])\n"
        f"os.write(2, b'from a descriptor\\n')\n{_TAKEN}",
        "for n in range(30):\n    clear_output(wait=n % 2 == 0); print('round', n)",
        "print('gone'); clear_output()",
        "for n in range(0, 101):\n"
        "    print(f'\\r{n:3}%|{\"#\" * (n // 10):10}|', end='', file=sys.stderr, flush=True)",
        "from comm import create_comm\n"
        "comm = create_comm(target_name='jupyter.widget', data={'state': {}}); comm.send({})\n"
        "display({'text/plain': 'Slider(value=1)', 'application/vnd.jupyter.widget-view+json':"
        " {'model_id': comm.comm_id, 'version_major': 2, 'version_minor': 0}}, raw=True)",
        "len?",
        "go = threading.Event()\ndef late():\n    go.wait(); print('late')\n"
        "thread = threading.Thread(target=late); thread.start()",
        "go.set(); thread.join(); print('after')",
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert set(run.statuses) == {OK}
    assert run.text(1) == "from a shell\nfrom a child\n"
    assert run.text(1, "stderr") == "from a descriptor\n"
    assert run.text(2) == "round 29\n"
    assert run.outputs(3) == []
    assert run.text(4, "stderr") == "100%|##########|"
    assert [set(output["data"]) for output in run.outputs(5)] == [
        {"text/plain", "application/vnd.jupyter.widget-view+json"}
    ]
    assert "Return the number of items" in run.outputs(6)[0]["data"]["text/plain"]
    # Of a thread that outlives its cell: with the cell in which it came.
    assert sorted((run.text(7) + run.text(8)).splitlines()) == ["after", "late"]
    for index in range(9):
        assert run.cell(index).outputs_digest == digest_of(run.outputs(index))


_CLOSES = """
from comm import create_comm
model = {'_model_name': 'OutputModel', '_model_module': '@jupyter-widgets/output', 'outputs': []}
comm = create_comm(target_name='jupyter.widget', data={'state': model})
request = get_ipython().kernel.get_parent()['header']['msg_id']
comm.send({'method': 'update', 'state': {'msg_id': request}})
print('taken', flush=True)
comm.close()
print('shown')
"""


async def test_what_comes_after_a_widget_was_closed_is_the_cells(tmp_path: Path) -> None:
    run = await recorded(tmp_path, _CLOSES)
    assert run.text(0) == "shown\n"
    (left,) = [report for report in run.reports if isinstance(report, WidgetsLeft)]
    assert left.state is not None
    ((state,),) = [msgspec.json.decode(left.state)["state"].values()]
    assert state["state"]["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": "taken\n"}
    ]


_SLOW_PUBLISHER = """
import sys, time
sys.stdout.flush_timeout = sys.stderr.flush_timeout = 0.2
get_ipython().kernel.iopub_thread.io_loop.add_callback(time.sleep, 1.5)
print('slow')
"""


@pytest.mark.guarantee("G15")
async def test_a_flush_that_does_not_come_through_in_time_is_told(tmp_path: Path) -> None:
    run = await recorded(tmp_path, _SLOW_PUBLISHER, "print('next')")
    assert run.statuses == [OK, OK]
    assert [run.cell(index).truncated for index in (0, 1)] == [True, False]
    (told,) = run.cell(0).warnings
    assert told.endswith("the kernel gave up waiting until all of it was published")
    # It comes after the end of the cell; no remark of ipykernel's own is among it.
    assert (run.outputs(0), run.updated(0)) == (
        [],
        [{"output_type": "stream", "name": "stdout", "text": "slow\n"}],
    )
    assert (run.text(1), run.text(1, "stderr")) == ("next\n", "")


_HANDS_BACK = """
import mmap, os
results = os.path.join(os.path.dirname(os.environ['NBLEDGER_RUN_FILE']), 'results')
def hand_back(name):
    with open(os.path.join(results, name), 'w') as file: file.write('{}')
with open(os.path.join(results, 'data.bin'), 'wb') as file: file.write(b'0' * 4096)
"""
_MAPS = """
file = open(os.path.join(results, 'data.bin'), 'r+b')
memory = mmap.mmap(file.fileno(), 0)
memory[0] = 49
hand_back('000002.json')
"""


@pytest.mark.guarantee("G16")
async def test_results_that_later_cells_can_change_unseen_are_told(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        f"{_HANDS_BACK}hand_back('000001.json')",
        _MAPS,
        "before = os.stat(file.fileno()).st_ctime_ns; memory[0] = 50\n"
        "os.stat(file.fileno()).st_ctime_ns == before",
        "memory.close(); hand_back('000003.json')",
    )
    assert run.statuses == [OK] * 4
    told = "later cells can change its results unseen, which are mapped into memory: data.bin"
    assert [run.cell(index).warnings for index in range(4)] == [[], [told], [], []]
    assert [[each.name for each in run.cell(index).handed_back] for index in range(4)] == [
        ["000001.json"],
        ["000002.json"],
        [],
        ["000003.json"],
    ]


async def test_nobody_answers_a_question(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "input('name? ')",
        "import getpass; getpass.getpass()",
        "import sys; sys.stdin.read()",
        "1 + 1",
        continue_on_error=True,
    )
    assert run.statuses == [ERROR, ERROR, OK, OK]
    assert {run.cell(i).error_name for i in (0, 1)} == {"StdinNotImplementedError"}


@pytest.mark.skipif("ir" not in find_kernel_specs(), reason="the R kernel is not installed")
async def test_nobody_answers_a_question_in_r(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path, "readline('name? ')", "cat('on')", kernel_name="ir", continue_on_error=True
    )
    assert run.statuses == [ERROR, OK]
    assert "nobody to give it" in (run.cell(0).error_value or "")
    assert [output["evalue"] for output in run.outputs(0) if output["output_type"] == "error"] == [
        run.cell(0).error_value
    ]
    assert run.text(1) == "on"


_WAITING = """
import pathlib, sys, time
from IPython.display import display
print('a\\n' * 600_000, flush=True)
display({'text/plain': 'shown'}, raw=True)
handle.update({'text/plain': 'new'}, raw=True)
print('first', flush=True)
while not pathlib.Path('seen').exists(): time.sleep(0.01)
print('second')
"""


async def test_what_a_running_cell_puts_out_is_told_before_it_ends(tmp_path: Path) -> None:
    def take(report: Report, _: Recorded) -> None:
        # Without this report the cell would never end.
        if isinstance(report, OutputsSoFar) and b"first" in report.outputs[-1]:
            (tmp_path / "seen").touch()

    before = "from IPython.display import display\n"
    shown = before + "handle = display({'text/plain': 'old'}, raw=True, display_id='d')"
    run = Recorded(request(tmp_path, shown, _WAITING), take)
    await run.result()
    assert run.statuses == [OK, OK]
    so_far = [report for report in run.reports if isinstance(report, OutputsSoFar)]
    assert {report.index for report in so_far} == {1}
    (last,) = [report for report in so_far if b"first" in report.outputs[-1]]
    kinds = [msgspec.json.decode(output)["output_type"] for output in last.outputs]
    assert kinds == ["stream", "display_data", "stream"][last.unchanged :]
    # Long text had left in parts, which come once.
    parts = [report for report in run.reports if isinstance(report, OutputPart)]
    assert [report.number for report in parts] == [1]
    assert run.text(1) == "a\n" * 600_000 + "\nfirst\nsecond\n"
    (updated,) = [report for report in run.reports if isinstance(report, OutputsUpdated)]
    assert run.reports.index(updated) < run.reports.index(last)
    assert msgspec.json.decode(updated.outputs[0])["data"] == {"text/plain": "new"}
    assert updated.outputs_digest == digest_of([msgspec.json.decode(updated.outputs[0])])


async def test_what_a_running_cell_puts_out_may_wait_for_its_end(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "import time\nfor n in range(12): print(n, flush=True); time.sleep(0.1)",
        save_intermediate_results=False,
    )
    assert not any(isinstance(report, OutputsSoFar) for report in run.reports)
    assert run.text(0) == "".join(f"{n}\n" for n in range(12))
