"""Exclusive locks on files: held by one process, given up by the kernel when it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_held: set[int] = set()


class LockHeldError(Exception):
    """Another process (or another part of this one) holds the lock; `pid` as it wrote it."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        super().__init__(f"{path} is locked by process {pid or 'unknown'}")


class FileLock:
    """A lock taken with `acquire_lock`. Neither executed nor forked children hold it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _held.add(descriptor)

    def release(self) -> None:
        """Give the lock up; a second call does nothing. The file stays: removing it would race."""
        if self._descriptor is not None:
            _held.discard(self._descriptor)
            os.ftruncate(self._descriptor, 0)
            # Not by closing alone: a child forked this instant may still have its copy open.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None


def acquire_lock(path: Path) -> FileLock:
    """Take the lock on `path` (created if missing) without waiting and write our pid into it.

    Raises:
        LockHeldError: somebody else has it.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        held_by = os.pread(descriptor, 32, 0).strip()
        os.close(descriptor)
        raise LockHeldError(path, int(held_by) if held_by.isdigit() else None) from None
    except BaseException:
        os.close(descriptor)
        raise
    return FileLock(descriptor)


def _forget_in_child() -> None:
    # A forked child shares the open file, and with it the lock: close the child's copy.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
