"""What cells can bring about by messages of their own making: nothing is lost without a word."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.kernels import Recorded, recorded, request

from nbledger_workers.kernel.protocol import CellStatus, Heartbeat, Limits, Outcome

pytestmark = pytest.mark.timeout(240)

OK, ERROR = CellStatus.SUCCESS, CellStatus.ERROR

_FORGE = """
import os, sys, time
k = get_ipython().kernel
def send(kind, content, parent=None):
    k.session.send(k.iopub_socket, kind, content=content, parent=parent or k.get_parent())
def idle(**more): send('status', {'execution_state': 'idle', **more})
def raw(*frames):
    # By the socket itself, in the thread that has it.
    done = __import__('threading').Event()
    def publish():
        k.iopub_thread.socket.send_multipart(list(frames)); done.set()
    k.iopub_thread.schedule(publish); done.wait(5)
def signed(kind, content, *identities):
    message = k.session.msg(kind, content=content, parent=k.get_parent())
    raw(*identities, *k.session.serialize(message))
def reply(content):
    k.session.send(k.shell_stream, 'execute_reply', content, parent=k.get_parent(),
                   ident=k._shell_parent_ident.get())
"""


def spec(folder: Path, *argv: str, **env: str) -> None:
    """A kernelspec `own` below `folder`, of a kernel that is started and no fork."""
    path = folder / "kernels" / "own" / "kernel.json"
    path.parent.mkdir(parents=True)
    content = {"argv": argv, "display_name": "own", "language": "python", "env": env}
    path.write_text(json.dumps(content))


def plain(folder: Path) -> None:
    """ipykernel as it is: nothing in it numbers what it publishes."""
    source = "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
    spec(folder, sys.executable, "-c", source, "-f", "{connection_file}")


_FORGING = (
    _FORGE + "idle(); time.sleep(0.3); print('one'); raise ValueError('two')",
    "idle(); signed('status', {'execution_state': 'idle'}); time.sleep(0.3); print('three')",
    "print('four')",
)


def check_forging(run: Recorded) -> None:
    assert run.statuses[:3] == [ERROR, OK, OK]
    assert [run.text(index) for index in range(3)] == ["one\n", "three\n", "four\n"]
    assert run.cell(0).error_name == "ValueError"
    assert [output["output_type"] for output in run.outputs(0)] == ["stream", "error"]
    for index in range(3):
        assert (run.cell(index).truncated, run.cell(index).warnings) == (False, [])


@pytest.mark.guarantee("G16")
@pytest.mark.parametrize("kernel", ["python3", "own"])
async def test_a_cell_that_says_that_it_is_over_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    if kernel == "own":
        plain(tmp_path)
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    # The last but one that has an idle with a mark of its own, and the last one, are over as told.
    run = await recorded(
        tmp_path,
        *_FORGING,
        "idle(nbledger='mark'); time.sleep(0.3); print('last')",
        kernel_name=kernel,
        continue_on_error=True,
        timeout=200.0,
    )
    check_forging(run)
    assert run.text(3) == "last\n"
    assert run.finished is not None
    assert (run.finished.outcome, run.finished.warnings) == (Outcome.COMPLETED, [])


_TOY = """
import os
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

SPACE = {}

class Toy(Kernel):
    implementation = banner = 'toy'
    implementation_version = '1'
    language_info = {'name': 'toy', 'mimetype': 'text/plain', 'file_extension': '.toy'}

    async def do_execute(self, code, silent, **options):
        content = {'status': 'ok', 'execution_count': self.execution_count,
                   'payload': [], 'user_expressions': {}}
        try:
            SPACE['print'] = lambda text: self.send_response(
                self.iopub_socket, 'stream', {'name': 'stdout', 'text': f'{text}\\n'})
            SPACE['get_ipython'] = lambda: type('Shell', (), {'kernel': self})
            exec(code, SPACE)
        except Exception as error:
            told = {'ename': type(error).__name__, 'evalue': str(error), 'traceback': []}
            self.send_response(self.iopub_socket, 'error', told)
            content |= {'status': 'error', **told}
        if os.environ['IDLE_FIRST'] == '1':
            super()._publish_status('idle', 'shell')
        return content

    def _publish_status(self, status, channel, parent=None):
        told = self.get_parent(channel).get('header', {}).get('msg_type')
        if (status, told, os.environ['IDLE_FIRST']) != ('idle', 'execute_request', '1'):
            super()._publish_status(status, channel, parent)

IPKernelApp.launch_instance(kernel_class=Toy)
"""


def toy(folder: Path, monkeypatch: pytest.MonkeyPatch, *, idle_first: str = "0") -> None:
    """A kernel of another make under the name `own`, which gives no marks."""
    (folder / "toy.py").write_text(_TOY)
    argv = [sys.executable, str(folder / "toy.py"), "-f", "{connection_file}"]
    spec(folder, *argv, IDLE_FIRST=idle_first)
    monkeypatch.setenv("JUPYTER_PATH", str(folder))


@pytest.mark.parametrize("idle_first", ["0", "1"])
async def test_a_kernel_of_another_make_may_reply_first_or_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle_first: str
) -> None:
    toy(tmp_path, monkeypatch, idle_first=idle_first)
    (folder := tmp_path / "run").mkdir()
    run = await recorded(
        folder, *_FORGING, kernel_name="own", continue_on_error=True, timeout=200.0
    )
    check_forging(run)


async def test_a_kernel_that_dies_after_a_forged_end_has_its_output_and_is_flagged(
    tmp_path: Path,
) -> None:
    run = await recorded(
        tmp_path,
        _FORGE + "idle(); time.sleep(0.3); print('seen', flush=True)\n"
        # Nothing in the kernel tells when ZeroMQ has handed its last message to the system.
        "time.sleep(1); print('unsent'); os._exit(3)",
        "print('never')",
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.KERNEL_DIED
    assert run.statuses == [ERROR, CellStatus.SKIPPED]
    assert run.text(0).startswith("seen\n")
    assert run.cell(0).truncated
    (told,) = run.cell(0).warnings
    assert "had not sent by then" in told


@pytest.mark.guarantee("G15")
async def test_what_a_cell_sends_flags_it_and_nothing_else(tmp_path: Path) -> None:
    strange = (
        "for content in ({'execution_state': []}, {}): send('status', content)\n"
        "idle(nbledger=1)\n"
        "send('stream', {'name': ['x'], 'text': {'a': 1}})\n"
        "send('error', {'traceback': 5, 'ename': None})\n"
        "send('display_data', {'data': 7, 'transient': 'x', 'metadata': []})\n"
        "send('comm_msg', {'comm_id': [], 'data': 3})\n"
    )
    run = await recorded(
        tmp_path,
        _FORGE + "signed('stream', {'name': 'stdout', 'text': 'odd'}, b'#999999999')",
        "raw(b'no delimiter'); raw(b'<IDS|MSG>', b'sig', b'{', b'}'); print('after')",
        "signed('stream', {'name': 'stdout', 'text': 'big'}, b'#' + b'9' * 6000)",
        strange + "print('on')",
        # A reply of its own, before the true one and of an end that is none of its own.
        "reply({'status': 'ok', 'execution_count': 'x', 'payload': 5, 'nbledger': 7}); idle()\n"
        "time.sleep(0.3); print('still'); raise ValueError('true')",
        # One with a mark: it is over then, and what comes before the next has begun is its.
        "mark = {'unfinished': [], 'end': 'm'}\n"
        "reply({'status': 'ok', 'nbledger': mark}); idle(nbledger='m')\n"
        "time.sleep(0.5); print('late'); sys.stdout.flush()",
        "print('whole')",
        continue_on_error=True,
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    assert run.statuses == [OK, OK, OK, OK, ERROR, OK, OK]
    texts = [run.text(index) for index in range(5)]
    assert texts[:3] == ["odd", "after\n", "big"]
    assert (texts[3][-3:], texts[4]) == ("on\n", "still\n")
    assert [run.cell(index).truncated for index in (0, 1, 2, 4, 6)] == [True, True] + [False] * 3
    assert "not in order" in " ".join(run.cell(0).warnings + run.cell(1).warnings) or (
        "were lost" in run.cell(0).warnings[0]
    )
    assert run.cell(4).error_value == "true"
    (told,) = run.cell(4).warnings
    assert "more than once" in told
    # Where its own reply is read only after the rest, it is not over by it.
    assert (run.text(5) or run.updated(5)[-1]["text"]) == "late\n"
    assert run.text(6) == "whole\n"
    (told,) = run.cell(5).warnings + run.cell(6).warnings
    assert "more than once" in told or "how that one ended may not be true" in told


@pytest.mark.guarantee("G16")
async def test_no_cell_can_reply_for_a_later_one_or_clear_what_it_shows(tmp_path: Path) -> None:
    guess = (
        "import threading\n"
        "parent = k.get_parent(); ident = k._shell_parent_ident.get()\n"
        "own = parent['header']['msg_id']; base, _, number = own.rpartition('_')\n"
        "for n in range(int(number), int(number) + 9):\n"
        "    told = {**parent, 'header': {**parent['header'], 'msg_id': f'{base}_{n}'}}\n"
        "    if told['header']['msg_id'] != own:\n"
        "        content = {'status': 'ok'}\n"
        "        k.session.send(k.shell_stream, 'execute_reply', content, told, ident=ident)\n"
        "go, gone = threading.Event(), threading.Event()\n"
        "def clear():\n"
        "    go.wait(); send('clear_output', {'wait': False}, parent); gone.set()\n"
        "threading.Thread(target=clear, daemon=True).start()"
    )
    run = await recorded(
        tmp_path,
        _FORGE + guess,
        "raise ValueError('honest')",
        "print('kept', flush=True); go.set(); gone.wait(); time.sleep(0.2)",
        continue_on_error=True,
    )
    assert run.statuses == [OK, ERROR, OK]
    assert run.cell(1).error_value == "honest"
    assert run.text(2) == "kept\n"


_AGREEING = (
    _FORGE + "print('before')\n"
    "told = {'status': 'ok', 'execution_count': 7, 'payload': [], 'user_expressions': {}}\n"
    "reply({**told, 'nbledger': {'end': 'x', 'unfinished': []}})\n"
    "idle(nbledger='x')\n"
    "for n in range(5): print('late', n, flush=True); time.sleep(0.2)\n"
)


@pytest.mark.guarantee("G16")
@pytest.mark.parametrize(("end", "status"), [("raise ValueError", ERROR), ("os._exit(0)", ERROR)])
async def test_a_reply_and_an_idle_that_agree_end_no_cell(
    tmp_path: Path, end: str, status: CellStatus
) -> None:
    run = await recorded(tmp_path, f"{_AGREEING}{end}", "print('next')", timeout=100.0)
    assert run.statuses[0] == status
    assert run.text(0).split() == ["before", *(f"{x}" for n in range(5) for x in ("late", n))]
    assert run.finished is not None
    assert run.finished.outcome is not Outcome.COMPLETED


@pytest.mark.guarantee("G15")
async def test_a_cell_that_takes_all_descriptors_can_still_tell_of_it(tmp_path: Path) -> None:
    taking = """
fs = []
try:
    while True: fs.append(open('/dev/null'))
except OSError: pass
print('result')
"""
    run = await recorded(
        tmp_path,
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))",
        taking,
        "fs.clear(); print('after')",
        timeout=100.0,
    )
    assert run.statuses == [OK, OK, OK]
    assert [run.text(index) for index in range(3)] == ["", "result\n", "after\n"]


_DROPS_REPLY = """
session = get_ipython().kernel.session
send = session.send
def drop(stream, kind, *arguments, **options):
    if kind == 'execute_reply':
        session.send = send
        return None
    return send(stream, kind, *arguments, **options)
session.send = drop
print('all of it')
"""


@pytest.mark.stalls("a lost reply is told of by silence")
@pytest.mark.parametrize("kernel", ["python3", "own"])
async def test_a_cell_whose_reply_is_lost_ends_and_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    (folder := tmp_path / "run").mkdir()
    if kernel == "own":
        toy(tmp_path, monkeypatch)
    run = await recorded(
        folder,
        _DROPS_REPLY,
        "print('on')",
        # It is not over, however long it goes on after it has said so.
        _FORGE + "idle(); time.sleep(6); print('whole')",
        kernel_name=kernel,
        continue_on_error=True,
        timeout=100.0,
    )
    assert run.statuses == [ERROR, OK, OK]
    cell = run.cell(0)
    assert (cell.error_name, cell.truncated) == ("NoReply", True)
    assert cell.warnings == ["its output may not be whole: the kernel's reply was lost"]
    assert [run.text(index) for index in range(3)] == ["all of it\n", "on\n", "whole\n"]
    for index in (1, 2):
        assert (run.cell(index).truncated, run.cell(index).warnings) == (False, [])


_JUNK = """
import threading, time
k = get_ipython().kernel
ident = k._shell_parent_ident.get()
ident = ident[0] if isinstance(ident, list) else ident
# Whole messages: they take longer to read than to send.
frames = k.session.serialize(k.session.msg('junk', {}), ident=[ident])
def flood(socket):
    while True: socket.send_multipart(frames)
def hog():
    time.sleep(1); held = []
    while True: held.append(bytearray(8_000_000)); time.sleep(0.05)
"""
_SHELL_JUNK = _JUNK + "flood(getattr(k.shell_stream, 'socket', k.shell_stream))"
_STDIN_JUNK = _JUNK + "flood(k.stdin_socket)"
_MEMORY = _JUNK + "threading.Thread(target=hog, daemon=True).start(); flood(k.stdin_socket)"
# By the thread that publishes, which has nothing else to do then.
_IOPUB_FLOOD = """
k = get_ipython().kernel
busy = k.session.msg('status', {'execution_state': 'busy'})
frames = k.session.serialize(busy, ident=[b'status'])
thread = k.iopub_thread
def flood():
    for _ in range(2_000): thread.socket.send_multipart(frames)
    thread.io_loop.add_callback(flood)
thread.io_loop.add_callback(flood)
"""


@pytest.mark.stalls("its runs are stopped by the clock, in steps of seconds")
@pytest.mark.guarantee("G12")
@pytest.mark.parametrize(
    ("flood", "limits", "outcome"),
    [
        (_SHELL_JUNK, {"cell_timeout": 2.0}, Outcome.CELL_TIMED_OUT),
        (_IOPUB_FLOOD, {"timeout": 4.0}, Outcome.TIMED_OUT),
        (_STDIN_JUNK, {}, Outcome.CANCELLED),
        (_MEMORY, {"limits": Limits(memory_bytes=500_000_000)}, Outcome.MEMORY_LIMIT),
    ],
    ids=["cell timeout", "run timeout", "cancel", "memory"],
)
async def test_a_kernel_that_floods_its_channels_holds_up_no_limit(
    tmp_path: Path, flood: str, limits: dict[str, Any], outcome: Outcome
) -> None:
    beats: list[Heartbeat] = []

    def on_usage(beat: Heartbeat) -> None:
        beats.append(beat)
        if outcome is Outcome.CANCELLED and len(beats) == 3:
            run.run.cancel("enough")

    options = {"timeout": 100.0, "grace": 1.0, **limits}
    run = Recorded(
        request(tmp_path, "1", flood, "__import__('time').sleep(100)", "4", **options),
        on_usage=on_usage,
    )
    begun = time.monotonic()
    async with asyncio.timeout(60):
        finished = await run.result()
    assert finished.outcome is outcome
    assert run.statuses[0] is OK
    # That of a cell that has ended itself and floods from the background is behind the flood.
    assert run.statuses[-1] is CellStatus.SKIPPED
    assert run.ended - begun < 50.0
    assert len(beats) >= 2
