"""Reports of a kernel that wait to be recorded."""

import asyncio
from contextlib import suppress
from typing import Final

from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.protocol import (
    CellFinished,
    OutputPart,
    OutputsSoFar,
    OutputsUpdated,
    WidgetsLeft,
)

_BATCH_REPORTS: Final = 64

_BATCH_BYTES: Final = 32 * 1024 * 1024


class ReportQueue:
    """Reports between kernel and store: bounded, so that a slow store slows the kernel."""

    def __init__(self) -> None:
        self._waiting: list[Report] = []
        self._bytes = 0
        self._closed = asyncio.Event()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, message: Report) -> None:
        """Add a report; waits while too many wait."""
        await self._room.wait()
        self._waiting.append(message)
        self._bytes += _size(message)
        if len(self._waiting) >= _BATCH_REPORTS or self._bytes >= _BATCH_BYTES:
            self._room.clear()
        self._wake.set()

    def close(self) -> None:
        """There will be no more."""
        self._closed.set()
        self._wake.set()

    async def take(self, *, within: float | None = None) -> list[Report]:
        """All that wait, at least one; none when there will be no more, or not ``within`` s."""
        try:
            async with asyncio.timeout(within):
                await self._wake.wait()
        except TimeoutError:
            return []
        return self.waiting()

    def waiting(self) -> list[Report]:
        """All that wait now."""
        batch, self._waiting = self._waiting, []
        self._bytes = 0
        self._room.set()
        if not self._closed.is_set():
            self._wake.clear()
        return batch

    async def gather(self, *, within: float) -> list[Report]:
        """All that come in so many seconds, or until there will be no more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._closed.wait()
        return self.waiting()

    async def ends(self, *, within: float) -> bool:
        """Whether there will be no more, as far as it can be told in so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._wake.wait()
        return self._closed.is_set() and not self._waiting


def _size(message: Report) -> int:
    if isinstance(message, CellFinished | OutputsSoFar | OutputsUpdated):
        return sum(map(len, message.outputs))
    if isinstance(message, WidgetsLeft):
        return len(message.state or b"")
    return len(message.data) if isinstance(message, OutputPart) else 0
