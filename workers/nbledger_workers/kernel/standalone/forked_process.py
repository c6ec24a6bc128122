"""Turns a forked process into the one that was asked for; standard library only."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __package__:
    from nbledger_workers.kernel.standalone import prctl
    from nbledger_workers.kernel.standalone.beside import beside
else:
    prctl = beside("prctl")


def become(request: dict[str, Any], descriptors: list[int], parent: int, begins: int) -> NoReturn:
    """Turn the forked process into the one asked for, and end with it."""
    status = 1
    try:
        os.setsid()
        _restore_signals()
        os.close(begins)
        _place(descriptors)
        if request.get("isolation") is None:
            prctl.die_with(parent, signal.SIGKILL)
        else:
            module = beside("isolation")
            module.enter(module.Isolation.from_json(request["isolation"]))
        for name, value in (request.get("limits") or {}).items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
        os.nice(request.get("niceness") or 0)
        os.chdir(request.get("cwd") or "/")
        environment = request["env"]
        if "argv" in request:
            # Closed by exec or not: nothing beyond the given ones is inherited.
            os.execvpe(request["argv"][0], request["argv"], environment)  # noqa: S606
        os.environ.clear()
        os.environ.update(environment)
        _show(environment)
        _make_own()
        _take_python(*(request.get("python") or ()))
        sys.argv = list(request["arguments"])
        module, _, name = request["target"].partition(":")
        getattr(importlib.import_module(module), name)()
        status = 0
    except SystemExit as error:
        status = _exit_status(error)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the process's own stderr
    except BaseException:  # noqa: BLE001 - a forked process must not go on as its parent
        traceback.print_exc()
    finally:
        _finish(status)


def _finish(status: int) -> NoReturn:
    """What the interpreter's end does for threads and exit hooks, without taking all apart."""
    try:
        with contextlib.suppress(Exception):  # threads that were waited for long enough
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    finally:
        os._exit(status)


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201
    return 1


def _restore_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _place(descriptors: list[int]) -> None:
    """Make the given descriptors 0, 1, 2 and so on, and close all others."""
    count = len(descriptors)
    # First out of the way, so that none is overwritten before it is moved.
    moved = [os.dup(descriptor) if descriptor < count else descriptor for descriptor in descriptors]
    for number, descriptor in enumerate(moved):
        if descriptor < count:
            moved[number] = _above(descriptor, count)
    for number, descriptor in enumerate(moved):
        os.dup2(descriptor, number)
    os.closerange(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _above(descriptor: int, least: int) -> int:
    import fcntl  # noqa: PLC0415

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, least)


def _show(environment: dict[str, str]) -> None:
    """Have the system show the new values where it shows those that the fork server began with.

    Others look there to find the processes of a run. Only values as long as the old ones fit.
    """
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    if not start < end:
        return
    offset = 0
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        name, _, old = entry.partition(b"=")
        new = os.fsencode(environment.get(os.fsdecode(name), ""))
        if new and len(new) == len(old):
            ctypes.memmove(start + offset + len(name) + 1, new, len(new))
        offset += len(entry) + 1


def _take_python(executable: str = "", packages: str = "") -> None:
    """Be as a process of that interpreter, which has the same base and a folder of its own."""
    if not executable:
        return
    sys.executable = executable
    if "multiprocessing.spawn" in sys.modules:
        sys.modules["multiprocessing.spawn"].set_executable(executable)
    first = (
        n for n, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))
    )
    sys.path.insert(next(first, len(sys.path)), packages)


def _make_own() -> None:
    """Give up what forked processes must not share: random states, a secret, a folder's name."""
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        # What lets others in to managers and listeners.
        process = sys.modules["multiprocessing.process"].current_process()
        process.authkey = os.urandom(32)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    time.tzset()
