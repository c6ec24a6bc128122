"""A worker that dies leaves no process behind, whatever its notebook has started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.processes import alive

from nbledger_workers.kernel.processes import family

WORKER = """
import asyncio, sys
from pathlib import Path
from support.kernels import Recorded, fork_servers, request
from nbledger_workers.kernel.protocol import CellStarted

def hook(report, run):
    if isinstance(report, CellStarted) and report.index == 1:
        print(run.run.token, run.run.child_pid, *fork_servers().pids, flush=True)

run = Recorded(request(Path(sys.argv[1]), sys.argv[2], sys.argv[3]), hook)
asyncio.run(run.result())
"""
# A child, one in a session of its own, and one that nobody is the parent of any more.
SPAWN = """
import os, subprocess
first = subprocess.Popen(['sleep', '99'])
second = subprocess.Popen(['sleep', '99'], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv('/bin/sleep', ['sleep', '99'])
    os._exit(0)
os.wait()
"""
# Holds the GIL in one C call, so that no thread of the kernel can notice anything.
HOLD = "import re; re.match('(a?){40}a{40}', 'a' * 40)"
SLEEP = "import time; time.sleep(99)"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what is promised for Linux"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Takes the folder of sockets that nobody is left to remove; pytest's is too long for them."""
    with tempfile.TemporaryDirectory(prefix="nbt-") as folder:
        yield folder


@pytest.mark.guarantee("G13")
@pytest.mark.parametrize(
    ("killed", "cell"),
    [
        ("worker", HOLD),
        ("worker", SLEEP),
        ("worker and supervisor", HOLD),
        ("worker and fork servers", HOLD),
        ("fork server of kernels", HOLD),
        ("fork server of supervisors", SLEEP),
    ],
)
async def test_nothing_outlives_whoever_is_killed(
    tmp_path: Path, short_folder: str, killed: str, cell: str
) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WORKER,
        str(tmp_path),
        SPAWN,
        cell,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {"TMPDIR": short_folder}
        | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert worker.stdout is not None
    token = ""
    try:
        async with asyncio.timeout(60):
            told = (await worker.stdout.readline()).decode().split()
        token = told[0]
        child, supervisors, kernels = map(int, told[1:])
        # The kernel and the three that it started: one that is just becoming `sleep` has no mark.
        async with asyncio.timeout(10):
            while len(processes_of_run := family.marked(token)) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        everything = psutil.Process(worker.pid).children(recursive=True)
        victims = {
            "worker": [worker.pid],
            "worker and supervisor": [worker.pid, child],
            "worker and fork servers": [worker.pid, supervisors, kernels],
            "fork server of kernels": [kernels],
            "fork server of supervisors": [supervisors],
        }[killed]
        for pid in victims:
            # The first may have taken the others with it already.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # By themselves they would live for more than a minute.
        until = time.monotonic() + 15.0
        watched = everything if worker.pid in victims else processes_of_run
        while left := alive(watched):
            assert time.monotonic() < until, left
            await asyncio.sleep(0.02)
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()
        if token:
            family.kill_marked(token)
