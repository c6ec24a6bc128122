"""Children are owned: ended in order or by force, and leftovers of a killed run are found."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from nbledger.embedded.errors import EmbeddedError
from nbledger.embedded.processes import (
    RunAs,
    is_alive,
    spawn,
    sweep_instance,
    terminate,
    wait,
)
from nbledger_infrastructure.passed_on import INSTANCE_VARIABLE

LIMIT = 15

# Starts a grandchild that ignores SIGTERM, and waits.
STUBBORN = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
signal.pause()
"""

# Leaves a process behind that has nothing to do with us any more: own session, parent gone.
DAEMON = """
import os, signal, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
signal.pause()
"""


async def read_when_there(path: Path) -> str:
    async with asyncio.timeout(LIMIT):
        while not path.exists() or not path.read_text().endswith("\n"):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
        return path.read_text()  # noqa: ASYNC240


async def test_a_child_has_its_own_group_its_log_and_its_instance(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"import os; print(os.getpgid(0) == os.getpid(), os.environ['{INSTANCE_VARIABLE}'])"
    child = spawn([sys.executable, "-c", script], instance="me", log_file=log)
    assert await wait(child) == 0
    assert log.read_text() == "True me\n"
    assert log.stat().st_mode & 0o077 == 0


async def test_status_and_signal_are_told() -> None:
    child = spawn([sys.executable, "-c", "raise SystemExit(7)"])
    assert await wait(child) == 7
    assert await terminate(child, 1) == 7
    child = spawn(["sleep", "60"])
    assert await terminate(child, LIMIT) == -signal.SIGTERM


def test_an_unknown_program_is_named() -> None:
    with pytest.raises(EmbeddedError, match="no-such-program"):
        spawn(["no-such-program"])


async def test_the_deaf_are_killed_with_their_group(tmp_path: Path) -> None:
    log = tmp_path / "pids"
    child = spawn([sys.executable, "-c", STUBBORN], log_file=log)
    pids = [int(pid) for pid in (await read_when_there(log)).split()]
    family = [psutil.Process(pid) for pid in pids]
    started = time.monotonic()
    assert await terminate(child, 0.2) == -signal.SIGKILL
    assert time.monotonic() - started < LIMIT
    async with asyncio.timeout(LIMIT):
        while any(is_alive(process) for process in family):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_sweep_finds_a_detached_leftover_and_spares_the_rest(tmp_path: Path) -> None:
    instance = str(uuid.uuid4())
    pid_file = tmp_path / "pid"
    starter = spawn([sys.executable, "-c", DAEMON, str(pid_file)], instance=instance)
    own = spawn(["sleep", "60"], instance=instance)
    try:
        assert await wait(starter) == 0
        async with asyncio.timeout(LIMIT):
            while not pid_file.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        leftover = psutil.Process(int(pid_file.read_text()))
        assert os.getsid(leftover.pid) != os.getsid(0)
        assert await sweep_instance(str(uuid.uuid4())) == []
        assert is_alive(leftover)

        swept = await sweep_instance(instance, grace=0.2)

        assert [process.pid for process in swept] == [leftover.pid]
        assert not is_alive(leftover)
        assert is_alive(psutil.Process(own.pid)), "our own children are ours to stop"
        assert await sweep_instance(instance) == []
    finally:
        await terminate(own, LIMIT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's process")
async def test_sweep_ends_another_users_leftover() -> None:
    instance = str(uuid.uuid4())
    nobody = pwd.getpwnam("nobody")
    script = "sleep 60 & echo $!"
    reading, writing = os.pipe()
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        script,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        stdout=writing,
        env={INSTANCE_VARIABLE: instance, "PATH": os.environ["PATH"]},
    )
    await child.wait()
    leftover = psutil.Process(int(os.read(reading, 32)))
    os.close(reading)
    os.close(writing)
    assert leftover.uids().real == nobody.pw_uid
    assert [process.pid for process in await sweep_instance(instance)] == [leftover.pid]
    assert not is_alive(leftover)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_child_may_run_as_another_user(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    log = tmp_path / "log"
    child = spawn(
        ["id", "-u"], run_as=RunAs(nobody.pw_uid, nobody.pw_gid), log_file=log, cwd=Path("/")
    )
    assert await wait(child) == 0
    assert log.read_text() == f"{nobody.pw_uid}\n"
