"""File descriptors of an IPython kernel; runs inside it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

#: The standard descriptors, in words.
NAMES = {0: "standard input", 1: "standard output", 2: "standard error"}

_FIRST_OWN = 64


class DescriptorGuard:
    """The descriptors that the kernel cannot do without, and the standard ones."""

    def __init__(self) -> None:
        self._essential: dict[int, str] = {}
        self._kept: dict[int, int] = {}
        # Which files these are, by device and inode.
        self._identities: dict[int, tuple[int, int]] = {}
        self._files: set[int] = set()
        for number in NAMES:
            with contextlib.suppress(OSError):
                self._identities[number] = _identity(number)
                self._kept[number] = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN)

    def begin(self) -> None:
        """Note what there is; call it when the first cell comes, and nothing is in the making."""
        if self._essential:
            return
        self._files = set(_files())
        for number in _descriptors():
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
                # Of event loops and of ZeroMQ: none of them ends before the kernel does.
                if target == "anon_inode:[eventpoll]":
                    self._essential[number] = target

    def new_files(self) -> list[str]:
        """Paths of files that are open for writing and were not."""
        return [path for number, path in _files().items() if number not in self._files]

    def lost(self) -> bool:
        """Whether something is gone that the kernel needs."""
        for number, target in self._essential.items():
            try:
                if os.readlink(f"/proc/self/fd/{number}") != target:  # noqa: PTH115
                    return True
            except OSError:
                return True
        return False

    def reopen(self) -> list[int]:
        """Open those of the standard descriptors again that were closed; which they were."""
        closed = [number for number in self._kept if self._was_closed(number)]
        for number in closed:
            with contextlib.suppress(OSError):
                copy = self._kept[number]
                if _identity(copy) == self._identities[number]:
                    os.dup2(copy, number)
        return closed

    def _was_closed(self, number: int) -> bool:
        """Whether it is closed, or another file has got its number by being opened next.

        What a notebook puts in its place (`os.dup2`) is inherited by programs, for which it does
        so; what was merely opened is not.
        """
        try:
            if _identity(number) == self._identities[number]:
                return False
            return bool(fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        except OSError:
            return True


def _identity(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino


def _descriptors() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208
    except OSError:
        return set()


def _files() -> dict[int, str]:
    """Descriptors of files that are open for writing, with their paths."""
    found = {}
    for number in _descriptors():
        # The descriptor of the list itself is closed by now.
        with contextlib.suppress(OSError):
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
            if mode != os.O_RDONLY and stat.S_ISREG(os.fstat(number).st_mode):
                found[number] = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
    return found
