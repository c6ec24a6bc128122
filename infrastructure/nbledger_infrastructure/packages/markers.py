"""Files beside environments: what is planned, what is there, and which answered a request."""

import fcntl
import os
import re
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

MARKER: Final = "nbledger-environment.json"

KEY: Final = re.compile(r"py[\d.]+-[0-9a-f]{20}")


class Plan(msgspec.Struct, frozen=True):
    """An environment to be: what is installed, what is copied, and what to tell of it.

    ``fetched`` is installed too, and nothing of it is kept beside the environment; ``uploads`` are
    the ids of what it is.
    """

    key: str
    installed: list[str]
    fetched: list[str]
    copied: list[Path]
    shown: list[str]
    uploads: list[UUID]


class Marker(msgspec.Struct, frozen=True):
    """The last file of an environment: its packages, and its size in bytes.

    ``uploads`` are the ids of the libraries that were uploaded to a project and are in it; None in
    the markers of before, which do not tell.
    """

    packages: list[str]
    size: int
    uploads: list[UUID] | None = None


def open_lock(path: Path, how: int) -> int | None:
    """A lock on the file at ``path``, which is made where there is none; None if it is held."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            got = try_lock(lock, how)
            # Whoever removed what it stands for removed the file as well.
            there = got and _is_at(lock, path)
        except OSError:
            os.close(lock)
            raise
        if there:
            return lock
        os.close(lock)
        if not got:
            return None


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def try_lock(file: int, how: int) -> bool:
    """Lock it, or change the lock, without waiting; whether that was possible."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def noted(request: Path) -> str | None:
    """The key that is noted there; what a crash or a full disk has left is none."""
    try:
        key = request.read_bytes().decode("ascii", "replace")
    except OSError:
        return None
    return key if KEY.fullmatch(key) else None
