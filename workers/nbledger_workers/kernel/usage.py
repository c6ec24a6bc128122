"""Samples what a kernel and its descendants use while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import psutil

from nbledger_workers.kernel import processes
from nbledger_workers.kernel.protocol import Heartbeat, UpMessage

SAMPLE_SECONDS: Final = 0.25
HEARTBEAT_SECONDS: Final = 5.0


class UsageSampler:
    """Peak memory and CPU time of one kernel with its descendants; `watch` samples on and on."""

    def __init__(self) -> None:
        self.peak_memory_bytes = 0
        self.cpu_seconds = 0.0
        self._process: psutil.Process | None = None
        self._sampled = 0.0

    async def watch(
        self, process: psutil.Process, send: Callable[[UpMessage], Awaitable[None]]
    ) -> None:
        """Sample `process` until cancelled and send a heartbeat now and then."""
        self._process = process
        last = time.monotonic()
        while True:
            used = self.sample()
            if time.monotonic() - last >= HEARTBEAT_SECONDS:
                last = time.monotonic()
                beat = Heartbeat(memory_bytes=used.memory_bytes, cpu_seconds=used.cpu_seconds)
                await send(beat)
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self) -> processes.Usage:
        """What is used now; zero memory when the kernel is gone."""
        if self._process is None:
            return processes.Usage(0, self.cpu_seconds)
        self._sampled = time.monotonic()
        used = processes.usage(self._process)
        self.peak_memory_bytes = max(
            self.peak_memory_bytes, used.memory_bytes, processes.high_water(self._process.pid)
        )
        self.cpu_seconds = max(self.cpu_seconds, used.cpu_seconds)
        return used

    def sample_if_due(self) -> None:
        """Sample unless that was done a moment ago."""
        # Looking for children costs milliseconds: not after every one of many short cells.
        if time.monotonic() - self._sampled >= SAMPLE_SECONDS / 2:
            self.sample()

    def conclude(self) -> None:
        """Take the exact CPU time of what has ended and was waited for."""
        self.cpu_seconds = max(self.cpu_seconds, _cpu_of_ended_children())


def _cpu_of_ended_children() -> float:
    import resource  # noqa: PLC0415 - POSIX only

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
