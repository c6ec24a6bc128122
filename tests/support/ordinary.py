"""Programs started as an ordinary user, who is the same one for files."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: What the system says of the processes that this one sees.
PROCESSES = str(Path("/proc/self/ns/pid").readlink())

_PLAIN = 'exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all "$@"'
_LOCK_UP = f"echo 0 > /proc/sys/user/max_user_namespaces && {_PLAIN}"


def command(*, namespaces: bool = False) -> tuple[str, ...]:
    """Runs the command after it as an ordinary user.

    The user has no rights and can get none, neither by a set user id nor, unless `namespaces`, in
    a user namespace.
    """
    entered = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps")
    return (*entered, "sh", "-c", _PLAIN if namespaces else _LOCK_UP, "sh")


@functools.cache
def why_not() -> str:
    """Why there is no such user here; empty when there is."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "the programs unshare and setpriv are needed"
    tried = subprocess.run([*command(), "id", "-u"], capture_output=True, check=False, timeout=20)
    return "" if tried.stdout == b"1000\n" else tried.stderr.decode()


def become(folder: Path, monkeypatch: pytest.MonkeyPatch, *, namespaces: bool = False) -> None:
    """Workers that the test starts as processes are that user's; `folder` gets a program."""
    program = folder / "python"
    words = (*command(namespaces=namespaces), sys.executable)
    quoted = " ".join(f"'{word}'" for word in words)
    program.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user")
