"""The time that a run may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeLimit:
    """Calls ``on_over`` once ``seconds`` have passed; it counts from when it is made.

    It stands still while :meth:`paused`. :meth:`cancel` ends it.
    """

    def __init__(self, seconds: float, on_over: Callable[[], None]) -> None:
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, on_over)
        self._cancelled = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What passes meanwhile does not count."""
        if self._timer.cancelled() or (left := self._timer.when() - self._loop.time()) <= 0:
            yield
            return
        self._timer.cancel()
        try:
            yield
        finally:
            if not self._cancelled:
                self._timer = self._loop.call_later(left, self._on_over)

    def cancel(self) -> None:
        """Count no more."""
        self._cancelled = True
        self._timer.cancel()
