"""A worker that dies leaves no kernel behind, whatever the cell is doing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbledger_workers.kernel import processes

WORKER = """
import asyncio, sys
from pathlib import Path
from support.kernels import Recorded, request
from nbledger_workers.kernel.protocol import CellStarted

def hook(report, run):
    if isinstance(report, CellStarted) and report.index == 1:
        print(run.run.token, run.run.child_pid, flush=True)

run = Recorded(request(Path(sys.argv[1]), sys.argv[2], sys.argv[3]), hook)
asyncio.run(run.result())
"""
SPAWN = "import subprocess; p = subprocess.Popen(['sleep', '99'])"
# Holds the GIL in one C call, so that no thread of the kernel can notice anything.
HOLD = "import re; re.match('(a?){40}a{40}', 'a' * 40)"


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Takes the folder of sockets that nobody is left to remove; pytest's is too long for them."""
    with tempfile.TemporaryDirectory(prefix="nbt-") as folder:
        yield folder


@pytest.mark.parametrize("both_killed", [False, True])
async def test_a_killed_worker_leaves_no_kernel(
    tmp_path: Path, short_folder: str, *, both_killed: bool
) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WORKER,
        str(tmp_path),
        SPAWN,
        HOLD,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {"TMPDIR": short_folder}
        | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert worker.stdout is not None
    try:
        async with asyncio.timeout(30):
            token, child = (await worker.stdout.readline()).decode().split()
        # The kernel and the process it started.
        assert len(processes.marked(token)) == 2
    finally:
        worker.kill()
        await worker.wait()
    if both_killed:
        # The child, too: the kernel then ends by the death signal alone (its own children remain
        # until the next start looks for them).
        os.kill(int(child), signal.SIGKILL)
    until = time.monotonic() + 5
    left = processes.marked(token)
    while left and time.monotonic() < until:
        await asyncio.sleep(0.05)
        left = processes.marked(token)
    try:
        names = {process.name() for process in left}
        assert names <= ({"sleep"} if both_killed else set())
    finally:
        processes.kill_marked(token)
