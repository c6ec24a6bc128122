"""Ends of the program that come from its event loop, not from a cell; runs inside the kernel.

A task or a callback that raises `SystemExit` or `KeyboardInterrupt`, and a call that stops the
loop, would end the kernel: the reply of the running cell and what it has not sent yet would be
lost. Here the kernel lives on, so that the cell that runs, or else the next one, tells of the end.
"""

# Event loops and kernels have no public way to any of this.
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import Any


class ProgramEnd:
    """Notes what would end the event loop of this kernel; `install` it inside a running cell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._loop: Any = None
        self._pid = os.getpid()
        self._depth = 0
        # The task of the cell that runs.
        self._cell: Any = None
        self._noted: BaseException | None = None
        self._cancels = 0
        #: Whether the kernel itself is about to end, and with it the loop.
        self.ending = False

    def install(self) -> None:
        """Stand between the loop and the kernel."""
        with contextlib.suppress(Exception):
            loop = asyncio.get_running_loop()
            if not callable(getattr(type(loop), "_run_once", None)):
                # Its callbacks are run by another way than that of the standard library.
                return
            self._loop = loop
            loop._run_once = self._run_once  # type: ignore[attr-defined]
            loop.stop = self._stop  # type: ignore[method-assign]
            self._shell.ask_exit = self._ask_exit

    @property
    def noted(self) -> bool:
        """Whether the program has ended, and no cell has told so."""
        return self._noted is not None

    def begin(self) -> None:
        """The running task is a cell's: an end of the program cancels it."""
        self._cell = asyncio.current_task()
        self._cancels = 0

    def conclude(self) -> None:
        """The cell is over."""
        cell, self._cell = self._cell, None
        # Not in Python 3.10 and earlier, which counts no cancels.
        if hasattr(cell, "uncancel"):
            for _ in range(self._cancels):
                cell.uncancel()
        self._cancels = 0

    def take(self) -> BaseException | None:
        """What has ended the program, once."""
        noted, self._noted = self._noted, None
        return noted

    def _note(self, error: BaseException) -> None:
        if self._noted is not None:
            return
        self._noted = error
        if self._cell is None or _current_task() is self._cell:
            return
        # A cell that is over is to tell how it ended by itself.
        waits_for = self._waits_for()
        if waits_for is None or not waits_for.done():
            self._cancels += self._cell.cancel()

    def _waits_for(self) -> Any:
        """What the kernel's task waits for: a cell that awaits runs in a task of its own."""
        return getattr(self._cell, "_fut_waiter", None)

    def _is_kernels(self) -> bool:
        """Whether the kernel depends on the loop: a fork of it has no business with it."""
        return not self.ending and os.getpid() == self._pid

    def _run_once(self) -> None:
        loop = self._loop
        self._depth += 1
        try:
            # By its class: a notebook may replace it there.
            type(loop)._run_once(loop)
        except (SystemExit, KeyboardInterrupt) as error:
            # A cell that runs the loop itself gets it as it is.
            if self._depth > 1 or not self._is_kernels():
                raise
            self._note(error)
        finally:
            self._depth -= 1
            if not self._depth and self._is_kernels():
                loop._stopping = False

    def _stop(self) -> None:
        if self._is_kernels() and self._depth <= 1:
            self._note(RuntimeError("the event loop of the kernel was stopped, which goes on now"))
        else:
            type(self._loop).stop(self._loop)

    def _ask_exit(self) -> None:
        """Take `exit()`, which else has the loop stop some time later.

        A cell that calls it goes on to its end; a task or a callback ends the cell that runs.
        """
        if not self._is_kernels():
            type(self._shell).ask_exit(self._shell)
        elif self._is_of_cell():
            keeps = getattr(self._shell, "keepkernel_on_exit", None)
            told = {"source": "ask_exit", "keepkernel": keeps}
            self._shell.payload_manager.write_payload(told)
        else:
            self._note(SystemExit())

    def _is_of_cell(self) -> bool:
        """Whether the cell that runs is what calls this, or a thread while it runs."""
        if self._cell is None:
            return False
        if self._depth > 1 or threading.current_thread() is not threading.main_thread():
            return True
        current = _current_task()
        return current is not None and current in (self._cell, self._waits_for())


def _current_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:  # in a thread without a loop
        return None
