"""Processes of a run: found, measured and ended, whatever user code did to them.

What is measured is read from the system's own files: a look at one process costs some twenty
microseconds, and a run is looked at many times a second.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import psutil

from nbledger_workers.kernel.standalone.prctl import die_with

#: Environment variable that marks every process of one run.
TOKEN_VARIABLE: Final = "NBLEDGER_RUN"  # noqa: S105 - a name, not a secret

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Process(msgspec.Struct, frozen=True):
    """One process at a moment. Times are CPU seconds, `waited_seconds` of children that ended."""

    pid: int
    parent: int
    session: int
    started: int
    own_seconds: float
    waited_seconds: float
    memory_bytes: int
    is_zombie: bool


def death_signal(number: int, parent: int) -> Callable[[], None]:
    """A function that ties the calling process to its parent's life (Linux; elsewhere nothing).

    Safe to call between fork and exec. A process whose parent is already another ends itself.
    """
    if sys.platform != "linux":
        return lambda: None
    return functools.partial(die_with, parent, number)


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


class Family:
    """The processes of a run, found again and again.

    In a PID namespace of its own they are all that its /proc shows. Elsewhere they are what
    descends from the kernel, or from its guardian (a parent that is there for it alone), and what
    is in its session. Processes that have ended count until somebody has waited for them. Where
    there is no /proc nothing is found.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._namespace = _own_proc(pid)

    def close(self) -> None:
        """Look no more."""
        if self._namespace is not None:
            os.close(self._namespace)
            self._namespace = None

    def kernel(self) -> Process | None:
        """The kernel alone; None when it has ended."""
        kernel = look("/proc", self.pid)
        return None if kernel is None or kernel.is_zombie else kernel

    def members(self) -> list[Process]:
        """All that live now."""
        if self._namespace is not None:
            root = f"/proc/self/fd/{self._namespace}"
            return [each for each in _all(root) if each.pid != 1]
        everybody = _all("/proc")
        kernel = next((each for each in everybody if each.pid == self.pid), None)
        if kernel is None:
            return []
        roots = {self.pid}
        if kernel.parent not in (0, 1, os.getpid()):
            roots.add(kernel.parent)
        children: dict[int, list[Process]] = {}
        for each in everybody:
            children.setdefault(each.parent, []).append(each)
        found = {each.pid: each for each in everybody if each.session == self.pid}
        pending = [*roots, *found]
        while pending:
            for child in children.get(pending.pop(), ()):
                if child.pid not in found and child.pid != os.getpid():
                    found[child.pid] = child
                    pending.append(child.pid)
        found[self.pid] = kernel
        return list(found.values())

    def glance(self, most: int) -> tuple[int, int]:
        """How many live, and the bytes of memory that they hold at the most.

        That counts what they share as often as they share it. It costs little: beyond `most`
        (0 is no bound) nothing is counted further, and no memory is told.
        """
        if self._namespace is not None:
            root = f"/proc/self/fd/{self._namespace}"
            found = [int(name) for name in _names(root) if name.isdigit() and name != "1"]
        else:
            root = "/proc"
            found = self._below(most)
        if most and len(found) > most:
            return len(found), 0
        looked = [each for pid in found if (each := look(root, pid)) is not None]
        return len(looked), sum(each.memory_bytes for each in looked)

    def _below(self, most: int) -> list[int]:
        """The kernel and all below it, or below its guardian; as `glance`, not many more."""
        kernel = look("/proc", self.pid)
        if kernel is None:
            return []
        guarded = kernel.parent not in (0, 1, os.getpid())
        found = [] if guarded else [self.pid]
        pending = [kernel.parent if guarded else self.pid]
        while pending and not (most and len(found) > most):
            children = _children(pending.pop())
            found += children
            pending += children
        return found

    def mapped_files(self) -> set[int]:
        """Inodes of files that any of them has mapped into memory and shares with the system.

        What is written to a page that has been written to before is no change of the file that
        its times tell.
        """
        root = "/proc" if self._namespace is None else f"/proc/self/fd/{self._namespace}"
        found: set[int] = set()
        for member in self.members():
            found |= _mapped_files(root, member.pid)
        return found

    def is_kernel(self, member: Process, kernel: Process) -> bool:
        """Whether a member is the kernel, which a namespace knows by another number."""
        if self._namespace is None:
            return member.pid == kernel.pid
        return member.parent == 0 and member.started == kernel.started

    def proportional_memory(self, member: Process) -> int:
        """Bytes of a member, with what it shares divided among those that share it."""
        root = "/proc" if self._namespace is None else f"/proc/self/fd/{self._namespace}"
        try:
            with open(f"{root}/{member.pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
                for line in file:
                    if line.startswith(b"Pss:"):
                        return int(line.split()[1]) * 1024
        except PermissionError:
            return member.memory_bytes
        except (OSError, ValueError, IndexError):
            pass
        # It has ended meanwhile, unless the system tells that of nobody.
        return 0 if os.path.exists("/proc/self/smaps_rollup") else member.memory_bytes  # noqa: PTH110


def look(root: str, pid: int) -> Process | None:
    """One process as a /proc shows it; None when it is gone."""
    try:
        descriptor = os.open(f"{root}/{pid}/stat", os.O_RDONLY)
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        # After the name, which may hold anything.
        fields = text[text.rindex(b")") + 2 :].split()
        return Process(
            pid=pid,
            is_zombie=fields[0] in (b"Z", b"X"),
            parent=int(fields[1]),
            session=int(fields[3]),
            own_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
            waited_seconds=(int(fields[13]) + int(fields[14])) / _TICKS,
            started=int(fields[19]),
            memory_bytes=int(fields[21]) * _PAGE,
        )
    except (OSError, ValueError, IndexError):
        return None


def _mapped_files(root: str, pid: int) -> set[int]:
    found = set()
    with (
        contextlib.suppress(OSError, ValueError, IndexError),
        open(f"{root}/{pid}/maps", "rb") as file,  # noqa: PTH123
    ):
        for line in file:
            # Addresses, permissions, offset, device, inode, path.
            fields = line.split(None, 5)
            if b"w" in fields[1] and fields[1].endswith(b"s"):
                found.add(int(fields[4]))
    return found - {0}


def _names(root: str) -> list[str]:
    try:
        return os.listdir(root)  # noqa: PTH208 - a list of strings is what is wanted
    except OSError:
        return []


def _children(pid: int) -> list[int]:
    """The children of all threads of a process, where the system tells of them."""
    found: list[int] = []
    for thread in _names(f"/proc/{pid}/task"):
        with (
            contextlib.suppress(OSError, ValueError),
            open(f"/proc/{pid}/task/{thread}/children", "rb") as file,  # noqa: PTH123
        ):
            found += map(int, file.read().split())
    return found


def _all(root: str) -> list[Process]:
    found = (look(root, int(name)) for name in _names(root) if name.isdigit())
    return [each for each in found if each is not None]


def _own_proc(pid: int) -> int | None:
    """The /proc of the process's PID namespace, kept open, where it has one of its own."""
    try:
        if Path(f"/proc/{pid}/ns/pid").samefile("/proc/self/ns/pid"):
            return None
        descriptor = os.open(f"/proc/{pid}/root/proc", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    # Not yet mounted, it would be that of the machine.
    if os.path.exists(f"/proc/self/fd/{descriptor}/{pid}/ns") and pid > 2:  # noqa: PTH110
        os.close(descriptor)
        return None
    return descriptor


def high_water(pid: int) -> int:
    """The most memory the process itself held since `reset_high_water`, in bytes; 0 if unknown."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:  # noqa: PTH123
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def reset_high_water(pid: int) -> bool:
    """Let the system's mark of the process's peak begin anew; False where it cannot."""
    try:
        descriptor = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def out_of_memory_kills() -> int:
    """How many processes this machine's system has ended for want of memory, since it started."""
    try:
        with open("/proc/vmstat", "rb") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


def taken_bytes(path: str) -> int:
    """Bytes that are taken on the file system of a folder, by whomever; 0 if unknown."""
    try:
        system = os.statvfs(path)
    except OSError:
        return 0
    return (system.f_blocks - system.f_bfree) * system.f_frsize


def folder_bytes(path: str, *, enough: int = 0) -> int:
    """Bytes on disk below a folder; links are not followed, what vanishes is not counted.

    Counting ends beyond `enough`, unless that is 0.
    """
    total = 0
    pending = [path]
    while pending and not (enough and total > enough):
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
