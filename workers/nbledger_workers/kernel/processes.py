"""Processes of a run: found, measured and ended, whatever user code did to them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

import msgspec
import psutil

#: Environment variable that marks every process of one run.
TOKEN_VARIABLE: Final = "NBLEDGER_RUN"  # noqa: S105 - a name, not a secret

_PR_SET_PDEATHSIG = 1


class Usage(msgspec.Struct, frozen=True):
    """What a process and its descendants use: resident bytes, CPU seconds."""

    memory_bytes: int
    cpu_seconds: float


def death_signal(number: int, parent: int) -> Callable[[], None]:
    """A function that ties the calling process to its parent's life (Linux; elsewhere nothing).

    Safe to call between fork and exec: all look-ups are done here, beforehand. A process whose
    parent is already another ends itself.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def signal_group(group: int, number: int) -> None:
    """Send a signal to a process group; a group that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def marked(token: str) -> list[psutil.Process]:
    """Every process that carries the run's token, in whichever group or session it hides."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN_VARIABLE) == token:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_marked(token: str) -> int:
    """SIGKILL every process of the run and return how many there were."""
    killed = 0
    # Again until none is found: one may have forked while it was looked for.
    for _ in range(5):
        found = [process for process in marked(token) if process.pid != os.getpid()]
        if not found:
            break
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
                killed += 1
        psutil.wait_procs(found, timeout=1)
    return killed


def usage(process: psutil.Process) -> Usage:
    """What the process and its living descendants use now; zeros when it is gone."""
    memory = 0
    cpu = 0.0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return Usage(0, 0.0)
    for member in family:
        try:
            with member.oneshot():
                memory += member.memory_info().rss
                times = member.cpu_times()
                cpu += times.user + times.system
                if member is process:
                    cpu += times.children_user + times.children_system
        except psutil.Error:
            continue
    return Usage(memory, cpu)


def high_water(pid: int) -> int:
    """The most memory the process itself ever held, in bytes; 0 where the system keeps no mark."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def folder_bytes(path: str) -> int:
    """Bytes on disk below a folder; links are not followed, what vanishes is not counted."""
    total = 0
    pending = [path]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total
