"""System calls that Python has no functions for; standard library only."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000


class IsolationError(Exception):
    """The isolation that was asked for cannot be had; says what failed."""


def libc() -> ctypes.CDLL:
    """C's library, which keeps the number of an error for `check`."""
    return ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int, what: str) -> None:
    """Move the calling process into new namespaces; raises IsolationError, which names `what`."""
    check(libc().unshare(ctypes.c_int(kinds)), what)


def check(result: int, what: str) -> None:
    """Raise IsolationError, which names `what`, unless a call's result is 0."""
    if result != 0:
        raise IsolationError(f"{what}: {os.strerror(ctypes.get_errno())}")
