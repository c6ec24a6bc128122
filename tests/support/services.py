"""The services that a test run shares: started by the first test that asks, in any xdist worker.

The process that the user started owns them (with xdist the controller, whose environment the
workers inherit): `begin_run` names a folder and the owner in the environment, `end_run` ends what
was started. Each service is run by a `service_host`, which also ends when the owner is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

KAFKA_VARIABLE = "NBLEDGER_TEST_KAFKA"
"""Environment variable: the broker the tests use, one of KAFKAS; tansu by default."""
KAFKAS = ("tansu", "apache")

_FOLDER = "NBLEDGER_TEST_FOLDER"
_OWNER = "NBLEDGER_TEST_OWNER"
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0


def begin_run() -> None:
    """Make the folder of this test run, unless the process that started us has done so."""
    if _owned_by_somebody():
        return
    folder = Path(tempfile.mkdtemp(prefix="nbledger-tests-"))
    # The database may run as another user, who must reach its data.
    folder.chmod(0o711)
    os.environ[_FOLDER] = str(folder)
    os.environ[_OWNER] = str(os.getpid())


def end_run() -> None:
    """End what this run has started; only the owner does."""
    if os.environ.get(_OWNER) != str(os.getpid()):
        return
    folder = run_folder()
    hosts = []
    for ready in folder.glob("*.host"):
        with contextlib.suppress(psutil.NoSuchProcess):
            hosts.append(psutil.Process(int(ready.read_text())))
    for host in hosts:
        with contextlib.suppress(psutil.NoSuchProcess):
            host.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(hosts, timeout=_STOP_SECONDS)
    for host in alive:
        # Its services go with it.
        with contextlib.suppress(psutil.NoSuchProcess):
            host.kill()
    shutil.rmtree(folder, ignore_errors=True)
    del os.environ[_FOLDER], os.environ[_OWNER]


def kafka_name() -> str:
    """The broker that this test run uses, one of KAFKAS."""
    return os.environ.get(KAFKA_VARIABLE, KAFKAS[0])


def run_folder() -> Path:
    """The folder of this test run, which every user may pass through."""
    return Path(os.environ[_FOLDER])


def service_address(name: str) -> str:
    """The address of a shared service, which is started if it is not running yet.

    Args:
        name: postgres (an owner's DSN), tansu or apache (bootstrap servers), up (the home folder
            of a running ``nbledger up``).
    """
    ready = run_folder() / f"{name}.json"
    with locked(name):
        if not ready.exists():
            _start(name, ready)
        address: str = json.loads(ready.read_text())["address"]
        return address


def service_pid(name: str) -> int:
    """The process of a shared service that runs."""
    pid: int = json.loads((run_folder() / f"{name}.json").read_text())["pid"]
    return pid


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process of this run at a time into the block."""
    with (run_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _owned_by_somebody() -> bool:
    owner = os.environ.get(_OWNER)
    if owner is None or _FOLDER not in os.environ:
        return False
    return int(owner) in {parent.pid for parent in psutil.Process().parents()}


def _start(name: str, ready: Path) -> None:
    folder = ready.parent
    output = folder / f"{name}.host.log"
    with output.open("wb") as log:
        host = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("service_host.py")),
                name,
                str(folder),
                os.environ[_OWNER],
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # It may have been started by a worker that ends before others do; and Ctrl-C is for
            # the tests, which end it when they are done.
            start_new_session=True,
        )
    (folder / f"{name}.host").write_text(str(host.pid))
    limit = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if host.poll() is not None:
            raise RuntimeError(f"{name} did not start:\n{output.read_text()}")
        if time.monotonic() > limit:
            host.kill()
            raise TimeoutError(f"{name} did not start in time:\n{output.read_text()}")
        time.sleep(0.02)
    # It outlives us on purpose: say so, or Popen complains.
    host.returncode = 0
