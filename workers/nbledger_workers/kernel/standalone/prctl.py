"""Linux's prctl. Loaded by path, too, where no package of ours is known: it imports none."""

from __future__ import annotations

import ctypes
import os
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Looked up here, so that a call between fork and exec need not. Other systems have none.
_prctl: Any = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)


def prctl(option: int, *arguments: int) -> int:
    """Call it; 0 is good, and -1 has set ``errno``."""
    padded = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)][:4]
    result: int = _prctl(ctypes.c_int(option), *padded)
    return result


def die_with(parent: int, number: int) -> None:
    """Get this signal when the parent ends; a parent that has ended already ends this process."""
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)
