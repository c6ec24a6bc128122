"""Tries whether this system lets kernels be isolated; runs by its path, too."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING or __package__:
    from nbledger_workers.kernel.standalone import isolation, landlock, system_calls
    from nbledger_workers.kernel.standalone.beside import beside
else:
    # Run by its path.
    beside = runpy.run_path(str(Path(__file__).resolve().with_name("beside.py")))["beside"]
    isolation, landlock, system_calls = map(beside, ("isolation", "landlock", "system_calls"))

_PROBE_SECONDS: Final = 20.0


def available(wanted: isolation.Isolation) -> str | None:
    """Try it in a process of its own: None when it works here, else what is missing."""
    if wanted.level not in isolation.LEVELS:
        return f"there is no level {wanted.level!r}"
    if wanted.level == "landlock" and landlock.version() < landlock.FILES:
        return "the system does not offer Landlock"
    if sys.platform != "linux":
        return None if wanted == isolation.Isolation() else "this system is not Linux"
    with tempfile.TemporaryDirectory(prefix="nbi-") as folder:
        tried = {**wanted.to_json(), "folders": [folder], "temporary": folder}
        try:
            probe = subprocess.run(
                [sys.executable, "-I", "-S", __file__, json.dumps(tried)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                env={},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "the trial did not end"
    if probe.returncode == 0:
        return None
    words = probe.stderr.decode("utf-8", "replace").strip().splitlines()
    return words[-1] if words else f"the trial ended with status {probe.returncode}"


def _try() -> None:
    wanted = isolation.Isolation.from_json(json.loads(sys.argv[1]))
    try:
        isolation.prepare(isolation.Preparation(wanted.level))
        kernel = isolation.fork(wanted)
        if kernel is None:
            isolation.enter(wanted)
            _find_python()
            os._exit(0)
    except system_calls.IsolationError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
    status = os.waitpid(kernel.pid, 0)[1]
    kernel.end()
    os._exit(os.waitstatus_to_exitcode(status) & 1)


def _find_python() -> None:
    """Raise IsolationError where the calling process cannot be a Python kernel."""
    for place in (sys.executable, os.__file__):
        try:
            os.close(os.open(place, os.O_RDONLY))
        except OSError as error:
            raise system_calls.IsolationError(
                f"kernels cannot read {place}: {error.strerror}"
            ) from error


if __name__ == "__main__":
    _try()
