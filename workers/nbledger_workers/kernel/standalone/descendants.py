"""Processes below this one: found, waited for and ended; standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import time

_KILL_SECONDS = 10.0


def kill_all(*, grace: float = 0.0) -> None:
    """Kill every descendant of this process, which is their subreaper, and wait for their ends."""
    begun = time.monotonic()
    while time.monotonic() - begun < _KILL_SECONDS:
        if not reap_all():
            return
        if time.monotonic() - begun >= grace:
            for pid in below(os.getpid()):
                kill(pid)
        time.sleep(0.002)


def reap_all() -> bool:
    """Wait for all that have ended; whether there are children left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def name_of(pid: int) -> str | None:
    """What the process is called; `None` where it has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return None


def below(root: int, *, besides: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    """Pids of all processes below `root`, without those below `besides`."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    # After the name, which may hold anything: state, parent.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = [pid for pid in children.get(pending.pop(), ()) if pid not in besides]
        found += below
        pending += below
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def wake_on_children() -> int:
    """A descriptor that becomes readable when a child has ended."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def drain(descriptor: int) -> None:
    """Read away what a descriptor that does not block has."""
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass
