"""The orderly end of an IPython kernel, as an interpreter's; runs inside the kernel.

It does not wait for ever for threads, finalizes what the notebook made, and writes out what is
still buffered.
"""

# Kernels have no public way to any of this.
# ruff: noqa: SLF001

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import threading
import weakref
from typing import Any, NoReturn

from nbledger_workers.kernel.inside.descriptors import DescriptorGuard
from nbledger_workers.kernel.inside.streams import Streams

_MOST_TOLD = 5


class OrderlyEnd:
    """What a kernel has to do at its end; `register` it before the first cell."""

    def __init__(self, shell: Any, guard: DescriptorGuard, streams: Streams) -> None:
        self._shell = shell
        self._guard = guard
        self._streams = streams
        self._folder = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118
        self._hooks = atexit._ncallbacks()
        self._finalizers = {info.index for _, info in _finalizers()}
        self._thread_hooks = _thread_hooks()

    def register(self, hook: Any) -> None:
        """Have this run at the end, after what notebooks register."""
        atexit.register(hook)
        self._hooks = atexit._ncallbacks()

    def unfinished(self) -> list[str]:
        """What an orderly end has to do, in words; nothing where a kill loses nothing."""
        found = [
            f"the thread {thread.name!r}"
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        if (
            atexit._ncallbacks() > self._hooks
            or self._new_finalizers()
            or _thread_hooks() > self._thread_hooks
        ):
            found.append("exit hooks")
        found += [
            f"the open file {path.removeprefix(self._folder)!r}" for path in self._guard.new_files()
        ]
        if any(_has_finalizer(value) for value in list(self._shell.user_ns.values())):
            found.append("objects with finalizers")
        return found[:_MOST_TOLD]

    def _new_finalizers(self) -> list[Any]:
        """Those that the notebook has made, the last one first."""
        new = [pair for pair in _finalizers() if pair[1].index not in self._finalizers]
        return [each for each, _ in sorted(new, key=lambda pair: -pair[1].index)]

    def let_go(self) -> None:
        """As an interpreter's end does: finalize what the notebook made, write out buffers."""
        for finalizer in self._new_finalizers():
            # Their own exit hook may be older than ipykernel's, which closes what they print to.
            try:
                finalizer()
            except Exception as error:  # noqa: BLE001 - as that hook does
                sys.excepthook(type(error), error, error.__traceback__)
        # Before what is garbage goes, whose files close in any order.
        write_out()
        with contextlib.suppress(Exception):
            for name in ("last_value", "last_traceback", "last_exc"):
                if hasattr(sys, name):
                    delattr(sys, name)
            self._shell.user_ns.clear()
            gc.collect()
        write_out()
        self._streams.write_out_c()


class _ThreadsLateError(TimeoutError):
    """Threads of the notebook have not ended in time."""


def bound_threads(seconds: float) -> None:
    """Keep threads that go on for ever from holding up exit hooks for more than so many seconds."""
    if seconds <= 0:
        return
    show = sys.unraisablehook

    def unraisablehook(told: Any) -> None:
        if not isinstance(told.exc_value, _ThreadsLateError):
            show(told)

    sys.unraisablehook = unraisablehook
    signal.signal(signal.SIGALRM, _stop_waiting)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


def _stop_waiting(*_: object) -> NoReturn:
    raise _ThreadsLateError


def write_out() -> None:
    """Have all files of Python written out, text before bytes."""
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    found = [each for each in gc.get_objects() if issubclass(type(each), kinds)]
    for file in sorted(found, key=lambda each: not issubclass(type(each), io.TextIOWrapper)):
        with contextlib.suppress(Exception):
            file.flush()


def _finalizers() -> list[tuple[Any, Any]]:
    """What runs at exit by `weakref.finalize`, each with what the registry has of it."""
    registry = getattr(weakref.finalize, "_registry", {})
    return [(each, info) for each, info in list(registry.items()) if info.atexit]


def _thread_hooks() -> int:
    return len(getattr(threading, "_threading_atexits", ()))


def _has_finalizer(value: object) -> bool:
    return hasattr(type(value), "__del__") and type(value).__module__ != "_io"
