"""Become the program given, tied to the life of the parent. Run by path, never imported.

Usage: python -I -S _exec_owned.py PARENT_PID DEATH_SIGNAL UID:GID|- PROGRAM ARG...

Why a program of its own: code between fork and exec is unsafe in a process with threads, and the
kernel forgets the death signal when the user id changes, so it must be asked for after that.
"""

import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, death_signal = int(sys.argv[1]), int(sys.argv[2])
    user, program = sys.argv[3], sys.argv[4:]
    prctl = None
    if os.uname().sysname == "Linux":
        # Imported as the user we still are: the other one may not reach the standard library.
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    if user != "-":
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if prctl is not None and prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        # The parent died before the signal was asked for.
        sys.exit("the parent is gone")
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell, by intention
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


main()
