"""Runs code in a process that `isolation` has forked and isolated, and tells what it printed.

As a program: `isolated.py ISOLATION CODE PORTS`, with the isolation and the ports that its fork
server closes as JSON. It plays the fork server:
what it prints is one JSON object.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Its own: this file is also a program, which finds no other module of the tests.
_ROOT = Path(__file__).resolve().parents[2]
STANDALONE = _ROOT / "workers" / "nbledger_workers" / "kernel" / "standalone"


def run(
    isolation: Any,
    code: str,
    *,
    user: int | None = None,
    interpreter: str = sys.executable,
    closed_ports: Sequence[int] = (),
) -> dict[str, Any]:
    """What came of `code`: members `status`, `out`, `kernel` and `init` (process ids).

    `user` is a user id to start the fork server as.
    """
    result = subprocess.run(
        [
            interpreter,
            "-I",
            "-S",
            __file__,
            json.dumps(isolation.to_json()),
            code,
            json.dumps(closed_ports),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        env={"NBLEDGER_SECRET": "open sesame"},
    )
    assert result.returncode == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def _load() -> Any:
    return runpy.run_path(str(STANDALONE / "beside.py"))["beside"]("isolation")


def _main() -> None:
    isolation = _load()
    asked = isolation.Isolation.from_json(json.loads(sys.argv[1]))
    ports = tuple(json.loads(sys.argv[3])) if sys.argv[3:] else ()
    isolation.prepare(isolation.Preparation(asked.level, ports))
    read, write = os.pipe()
    kernel = isolation.fork(asked)
    if kernel is None:
        try:
            isolation.enter(asked)
            os.dup2(write, 1)
            os.dup2(write, 2)
            os.closerange(3, 256)
            exec(compile(sys.argv[2], "kernel", "exec"), {})  # noqa: S102 - the test's own code
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test is told
            os.write(1, repr(error).encode())
            os._exit(99)
        os._exit(0)
    os.close(write)
    status = os.waitpid(kernel.pid, 0)[1]
    kernel.end()
    parts = []
    # Ends when nothing that was started holds the other end any more.
    while chunk := os.read(read, 65536):
        parts.append(chunk)
    if kernel.init is not None:
        os.waitpid(kernel.init, 0)
    print(
        json.dumps(
            {
                "status": os.waitstatus_to_exitcode(status),
                "out": b"".join(parts).decode(),
                "kernel": kernel.pid,
                "init": kernel.init,
            }
        )
    )


if __name__ == "__main__":
    _main()
