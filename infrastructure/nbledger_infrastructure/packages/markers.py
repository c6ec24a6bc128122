"""Files beside environments: what is planned, what is there, and which answered a request."""

import fcntl
import re
from pathlib import Path
from typing import Final

import msgspec

MARKER: Final = "nbledger-environment.json"

KEY: Final = re.compile(r"py[\d.]+-[0-9a-f]{20}")


class Plan(msgspec.Struct, frozen=True):
    """An environment to be: what is installed, what is copied, and what to tell of it.

    ``fetched`` is installed too, and nothing of it is kept beside the environment.
    """

    key: str
    installed: list[str]
    fetched: list[str]
    copied: list[Path]
    shown: list[str]


class Marker(msgspec.Struct, frozen=True):
    """The last file of an environment: its packages, and its size in bytes."""

    packages: list[str]
    size: int


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
