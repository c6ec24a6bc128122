"""The fork server itself: what it forks, what it tells, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.processes import alive

from nbledger_workers.kernel.processes.fork_client import Forked, ForkServer, starts_alike

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

MODULE = """
import json, os, random, signal, subprocess, sys, threading, time

def tell():
    print(json.dumps({
        "arguments": sys.argv, "environment": dict(os.environ), "folder": os.getcwd(),
        "random": random.random(), "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
        "threads": threading.active_count(), "session": os.getsid(0) == os.getpid(),
        "name": __name__, "shown": open("/proc/self/environ").read(),
    }))
    import atexit
    atexit.register(print, "exit hook")
    sys.exit(3)

def hold():
    subprocess.Popen(["sleep", "99"])
    subprocess.Popen(["sleep", "99"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", "99"])
        os._exit(0)
    os.wait()
    print("holding", flush=True)
    import re
    re.match("(a?){40}a{40}", "a" * 40)
"""


@pytest.fixture
def fork_server(tmp_path: Path) -> Iterator[ForkServer]:
    (tmp_path / "forked_here.py").write_text(MODULE)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "SECRET_FREE": "yes"}
    made = ForkServer(["forked_here", "no_such_module"], environment=environment, tied=True)
    yield made
    made.close()


class Child:
    """A forked process and what it prints."""

    def __init__(self, fork_server: ForkServer, **request: Any) -> None:
        self.forked = Forked(fork_server.open())
        self.output, theirs = socket.socketpair()
        with theirs:
            full = {"arguments": ["x"], "env": dict(fork_server.environment), "cwd": "/", **request}
            number = theirs.fileno()
            self.forked.start(full, [number, number, number])

    async def text(self, until: bytes | None = None) -> str:
        self.output.setblocking(False)
        loop, data = asyncio.get_running_loop(), b""
        async with asyncio.timeout(20):
            while until is None or until not in data:
                chunk = await loop.sock_recv(self.output, 65536)
                if not chunk:
                    break
                data += chunk
        return data.decode()

    def close(self) -> None:
        self.forked.close()
        self.output.close()


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


async def gone(processes: list[psutil.Process], seconds: float) -> None:
    until = time.monotonic() + seconds
    while alive(processes):
        assert time.monotonic() < until, processes
        await asyncio.sleep(0.02)


async def test_a_forked_process_is_one_of_its_own(fork_server: ForkServer, tmp_path: Path) -> None:
    import json

    told = await fork_server.ready()
    assert told["failed"].keys() == {"no_such_module"}
    assert told["threads"] == 1
    numbers = set()
    for _ in range(2):
        child = Child(
            fork_server,
            target="forked_here:tell",
            arguments=["a", "b"],
            cwd=str(tmp_path),
            env={"ONLY": "this", "NBLEDGER_RUN": "f" * 32},
        )
        line, hook, _ = (await child.text()).split("\n")
        seen = json.loads(line)
        assert hook == "exit hook"
        assert await child.forked.ended() == 3
        await child.forked.wait_gone()
        assert seen["arguments"] == ["a", "b"]
        assert seen["environment"] == {"ONLY": "this", "NBLEDGER_RUN": "f" * 32}
        assert seen["folder"] == str(tmp_path)
        assert (seen["threads"], seen["session"], seen["name"]) == (1, True, "forked_here")
        # 0, 1, 2 and the one that lists them.
        assert seen["descriptors"][:3] == [0, 1, 2]
        assert len(seen["descriptors"]) == 4
        # The mark of a run is seen from outside.
        assert f"NBLEDGER_RUN={'f' * 32}" in seen["shown"]
        numbers.add(seen["random"])
        child.close()
    assert len(numbers) == 2


async def test_programs_and_what_cannot_be_started(fork_server: ForkServer) -> None:
    child = Child(fork_server, argv=["sh", "-c", "echo $0 $VALUE; exit 7"], env={"VALUE": "v"})
    assert (await child.text()).strip() == "sh v"
    assert await child.forked.ended() == 7
    child.close()
    missing = Child(fork_server, argv=["/no/such/program"])
    assert "No such file" in await missing.text()
    assert await missing.forked.ended() != 0
    missing.close()
    ended = Child(fork_server, argv=["sleep", "99"])
    await ended.forked.started()
    ended.forked.signal(signal.SIGTERM)
    assert await ended.forked.ended() == -signal.SIGTERM
    ended.close()


@pytest.mark.parametrize("who", ["asker", "guardian", "fork server", "control"])
async def test_whoever_goes_takes_everything_along(fork_server: ForkServer, who: str) -> None:
    child = Child(fork_server, target="forked_here:hold")
    await child.text(b"holding")
    kernel = await child.forked.started()
    processes = [*family(fork_server.pid)]
    # Guardian, the process that holds the GIL, and three sleepers.
    assert len(processes) == 5
    guardian = psutil.Process(kernel).parent()
    assert guardian is not None
    if who == "asker":
        child.forked.close()
    elif who == "guardian":
        guardian.kill()
    elif who == "fork server":
        os.kill(fork_server.pid, signal.SIGKILL)
    else:
        fork_server.close()
    try:
        await gone(processes, 15.0)
    finally:
        for each in processes:
            with contextlib.suppress(psutil.Error):
                each.kill()
        child.close()


SHARING = """
import gc, os, signal, sys
from nbledger_workers.kernel.processes import fork_client
first = fork_client.shared(sys.executable, {})
assert fork_client.shared(sys.executable, {}) is first
os.kill(first.pid, signal.SIGKILL)
while first.alive: pass
second = fork_client.shared(sys.executable, {})
assert second is not first
del first
gc.collect()
print(second.pid)
"""


def test_a_program_that_ends_leaves_no_fork_server_of_its_own() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHARING],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # A socket or a process left to the collector would be told of.
    assert ended.stderr == ""
    assert not psutil.pid_exists(int(ended.stdout))


def test_what_is_read_at_an_interpreters_start_decides() -> None:
    assert starts_alike({"PATH": "a", "PYTHONPATH": "p"}, {"HOME": "b", "PYTHONPATH": "p"})
    assert starts_alike({}, {"PYTHONUNBUFFERED": "1"})
    for name in ("PYTHONPATH", "LD_PRELOAD", "OMP_NUM_THREADS", "MPLBACKEND"):
        assert not starts_alike({}, {name: "1"})
        assert not starts_alike({name: "1"}, {name: "2"})
