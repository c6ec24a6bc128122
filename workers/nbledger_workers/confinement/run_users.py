"""A user id of its own for each run of a worker that is root.

Workers of one machine share the ids: a lock on a byte of one file, which the system takes back
when the worker ends, says that an id is in use.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import tempfile
from pathlib import Path
from typing import Final

#: No distribution gives these to anybody.
DEFAULT_FIRST: Final = 1_900_000_000
DEFAULT_COUNT: Final = 20_000

_LOCK_NAME: Final = "nbledger-run-users.lock"
# struct flock: type, whence, start, length, pid.
_FLOCK: Final = "hhqqi4x"


class NoUserLeftError(OSError):
    """Every user id of the range is in use by another run of this machine."""


class RunUsers:
    """Gives the ids from `first` to `last` to runs, each as long as the run's folder is there."""

    def __init__(self, first: int, last: int) -> None:
        self._first = first
        self._count = last - first + 1
        # Late to be used again: what a run leaves somewhere belongs to nobody for long.
        self._next = random.randrange(self._count)  # noqa: S311 - no secret
        self._held: dict[int, Path] = {}
        self._lock = _open_lock()

    def take(self, folder: Path) -> tuple[int, int]:
        """A user id and a group id for the run in this folder; raises NoUserLeftError."""
        self._let_go()
        for _ in range(self._count):
            user = self._first + self._next
            self._next = (self._next + 1) % self._count
            if user not in self._held and self._locked(user, fcntl.F_WRLCK):
                self._held[user] = folder
                return user, user
        raise NoUserLeftError(f"every user id from {self._first} on is in use; see worker.run_as")

    def _let_go(self) -> None:
        gone = [user for user, folder in self._held.items() if not folder.exists()]
        for user in gone:
            del self._held[user]
            self._locked(user, fcntl.F_UNLCK)

    def _locked(self, user: int, kind: int) -> bool:
        try:
            # Bound to this open file, not to the process as other locks on bytes are.
            request = struct.pack(_FLOCK, kind, os.SEEK_SET, user, 1, 0)
            fcntl.fcntl(self._lock, fcntl.F_OFD_SETLK, request)
        except (BlockingIOError, PermissionError):
            return False
        return True


def usable_range() -> tuple[int, int] | None:
    """The ids that runs get where none are named; None where this process has none to give.

    A container may have few: then those from the middle of what it has.
    """
    mapped = [
        (int(first), int(count))
        for first, _, count in map(str.split, Path("/proc/self/uid_map").read_text().splitlines())
    ]
    wanted = (DEFAULT_FIRST, DEFAULT_FIRST + DEFAULT_COUNT - 1)
    if any(first <= wanted[0] and wanted[1] < first + count for first, count in mapped):
        return wanted
    first, count = max(mapped, key=lambda each: each[1])
    if count < 2_000:
        return None
    return first + count // 2, first + count // 2 + min(count // 4, DEFAULT_COUNT) - 1


def _open_lock() -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    for folder in ("/run", tempfile.gettempdir()):
        try:
            return os.open(Path(folder) / _LOCK_NAME, flags, 0o600)
        except OSError as error:
            failed = error
    raise failed
