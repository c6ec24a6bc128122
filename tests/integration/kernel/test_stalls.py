"""Nothing is lost without a word while the supervising process is held; on real kernels."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from support.kernels import Recorded, recorded
from support.languages import kernelspec
from support.stalls import stalled

from nbledger_workers.kernel.protocol import CellStatus, Outcome

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="holds a process as Linux does"),
    pytest.mark.stalls("what a held process missed is waited for by the clock"),
]

OK, ERROR = CellStatus.SUCCESS, CellStatus.ERROR

# Each cell waits until the supervising process is held, and tells when it has published all.
PYTHON = """
import os, sys, time
from IPython.display import display
open('ready', 'w').close()
while not os.path.exists('held'): time.sleep(0.01)
os.remove('held')
for n in range(2_000): display({'text/plain': str(n)}, raw=True)
for n in range(2_000): print(n, file=(sys.stdout, sys.stderr)[n % 2])
open('done', 'w').close()
"""
R = """
created <- file.create('ready')
while (!file.exists('held')) Sys.sleep(0.01)
removed <- unlink('held')
for (n in 0:1999) IRdisplay::display_html(as.character(n))
cat(0:999, sep = '\\n')
created <- file.create('done')
"""
SCALA = """
new java.io.File("ready").createNewFile()
val held = new java.io.File("held")
while (!held.exists) Thread.sleep(10)
held.delete()
for (n <- 0 until 2000) publish.html(n.toString)
for (n <- 0 until 1000) println(n)
new java.io.File("done").createNewFile(); ()
"""


def check(run: Recorded, index: int, *, form: str, counts: int) -> None:
    """All displays of a cell are there, in order, and all text."""
    cell = run.cell(index)
    assert (cell.status, cell.truncated) == (OK, False), cell.warnings
    shown = [out["data"][form] for out in run.outputs(index) if form in out.get("data", {})]
    assert shown == [str(n) for n in range(2_000)]
    texts = sorted(map(int, (run.text(index) + run.text(index, "stderr")).split()))
    assert texts == list(range(counts))


def spec(folder: Path, name: str, *argv: str, **env: str) -> None:
    """A kernelspec below `folder`, of a kernel that is no fork."""
    path = folder / "kernels" / name / "kernel.json"
    path.parent.mkdir(parents=True)
    content = {"argv": argv, "display_name": name, "language": "python", "env": env}
    path.write_text(json.dumps(content))


@pytest.mark.guarantee("G15")
async def test_a_forked_kernel_keeps_what_is_not_read_yet(tmp_path: Path) -> None:
    run = await stalled(tmp_path, PYTHON, PYTHON, max_outputs=5_000)
    for index in (0, 1):
        check(run, index, form="text/plain", counts=2_000)
        (told,) = run.cell(index).warnings
        assert "took turns more than 200 times" in told


@pytest.mark.guarantee("G15")
async def test_a_started_python_keeps_what_is_not_read_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    spec(tmp_path, "started", *argv, OMP_NUM_THREADS="3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    (folder := tmp_path / "run").mkdir()
    (folder / "random.py").write_text("raise SystemError('not this one')")
    where = "import os, sys; print(sys.argv[0], sys.path[0] == os.getcwd(), __name__)"
    debugger = "print(os.environ.get('PYDEVD_DISABLE_FILE_VALIDATION'))"
    run = await stalled(
        folder,
        PYTHON,
        f"{where}\n{debugger}",
        kernel_name="started",
        held=(0,),
        max_outputs=5_000,
    )
    check(run, 0, form="text/plain", counts=2_000)
    # It is as `python -m` starts it.
    program, *rest = run.text(1).split()
    assert program.endswith("ipykernel_launcher.py")
    assert rest == ["False", "__main__", "None"]


@pytest.mark.parametrize(("language", "cell"), [("r", R), ("scala", SCALA)])
async def test_kernels_of_other_languages_keep_what_is_not_read_yet(
    tmp_path: Path, language: str, cell: str
) -> None:
    run = await stalled(
        tmp_path, cell, kernel_name=kernelspec(language), max_outputs=5_000, timeout=180.0
    )
    check(run, 0, form="text/html", counts=1_000)
    # Nor is there anything that nobody wrote, such as remarks of the kernel's own at its start.
    assert run.text(0, "stderr") == ""
    assert run.cell(0).warnings == []


_REPLIES = """
import os, time
k = get_ipython().kernel
shell = getattr(k.shell_stream, 'socket', k.shell_stream)
ident = k._shell_parent_ident.get()
open('ready', 'w').close()
while not os.path.exists('held'): time.sleep(0.01)
os.remove('held')
for n in range(6_000):
    content = {'status': 'ok', 'pad': 'x' * 1_000}
    k.session.send(shell, 'execute_reply', content, parent={'msg_id': 'none'}, ident=ident)
open('done', 'w').close()
"""


async def test_made_up_replies_push_no_true_one_out(tmp_path: Path) -> None:
    run = await stalled(tmp_path, _REPLIES, "print('next')", held=(0,), timeout=60.0)
    assert run.statuses == [OK, OK]
    assert [run.cell(index).warnings for index in (0, 1)] == [[], []]
    assert run.text(1) == "next\n"


@pytest.mark.guarantee("G15")
async def test_a_kernel_that_drops_output_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
    spec(tmp_path, "drops", sys.executable, "-c", source, "-f", "{connection_file}")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    run = await stalled(
        tmp_path, PYTHON, "print('on')", kernel_name="drops", held=(0,), max_outputs=5_000
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED
    # What says that the cell is over was dropped, too; the reply tells how it ended.
    assert run.statuses == [OK, OK]
    assert run.cell(0).truncated
    assert "may not be whole" in run.cell(0).warnings[0]
    assert run.text(1) == "on\n"
    assert not run.cell(1).truncated


_DROP = """
thread = get_ipython().kernel.iopub_thread
send = thread._really_send
def drop(message, *args, **kwargs):
    if b'"idle"' not in b''.join(map(bytes, message)): send(message, *args, **kwargs)
thread._really_send = drop
print('all of it')
"""


async def test_what_is_lost_on_the_way_is_found_out(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "print('before', flush=True)\n"
        "get_ipython().kernel.iopub_thread.nbledger_published += 3\nprint('after')",
        "print('whole')",
        _DROP,
        "thread._really_send = send\nprint('on')",
        # Nothing in the kernel tells when ZeroMQ has handed its last message to the system.
        "import os, signal, time\n"
        "print('last', flush=True); time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)",
        cell_timeout=8.0,
    )
    assert run.finished is not None
    assert run.finished.outcome is Outcome.KERNEL_DIED
    assert run.statuses == [OK, OK, OK, OK, ERROR]
    assert [run.cell(index).truncated for index in range(4)] == [True, False, True, False]
    (gap,) = run.cell(0).warnings
    assert "3 messages of the kernel were lost" in gap
    (unfinished,) = run.cell(2).warnings
    assert "has not told that the cell was over" in unfinished
    texts = [run.text(index) for index in range(5)]
    assert texts == ["before\nafter\n", "whole\n", "all of it\n", "on\n", "last\n"]


async def test_a_kernel_that_is_held_itself_is_waited_for(tmp_path: Path) -> None:
    """A reply that comes long before the rest is no loss where the rest comes."""
    stop = (
        "import os, signal, subprocess\n"
        f"subprocess.Popen(['sh', '-c', 'sleep 1; kill -{signal.SIGCONT.value} ' + "
        "str(os.getpid())])\n"
        f"print('held'); os.kill(os.getpid(), {signal.SIGSTOP.value})"
    )
    run = await recorded(tmp_path, stop, "1")
    assert run.statuses == [OK, OK]
    assert run.text(0) == "held\n"
    assert not run.cell(0).truncated


@pytest.mark.guarantee("G16")
@pytest.mark.parametrize("name", ["python3", "started"])
async def test_output_of_forks_comes_by_no_port_that_others_could_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    argv = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    spec(tmp_path, "started", *argv, OMP_NUM_THREADS="3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    (folder := tmp_path / "run").mkdir()
    run = await recorded(
        folder,
        "import os, psutil, sys\n"
        "if (pid := os.fork()) == 0:\n"
        "    print('from the fork'); sys.stdout.flush(); os._exit(0)\n"
        "os.waitpid(pid, 0)[1]",
        "psutil.Process().net_connections('inet')",
        kernel_name=name,
    )
    assert run.text(0) == "from the fork\n"
    assert run.outputs(1)[0]["data"]["text/plain"] == "[]"
