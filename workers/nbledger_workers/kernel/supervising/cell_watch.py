"""Waits for the end of a running cell, and stops it when it must."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import Any, Final

from nbledger_workers.kernel.channels.client import CellClient
from nbledger_workers.kernel.outputs.collector import OutputCollector
from nbledger_workers.kernel.protocol import CellStatus, RunNotebook
from nbledger_workers.kernel.resources.limits import LIMIT_OUTCOMES
from nbledger_workers.kernel.supervising.output_reports import OutputReports
from nbledger_workers.kernel.supervising.startup import Kernel
from nbledger_workers.kernel.supervising.stop import Stop
from nbledger_workers.kernel.supervising.verdict import stopped_as

_BEGIN_SECONDS: Final = 1.0
_REPLY_SECONDS: Final = 0.5
# R takes an interrupt badly until it has begun to wait for the input that it asked for.
_ASKED_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 0.3
_KILL_SECONDS: Final = 5.0
# What a running cell has put out is reported at the first of these ages and then each time that
# it has grown older by the other, so that reports of a long cell cost no more than its output.
_FIRST_SAVE_SECONDS: Final = 1.0
_SAVE_RATIO: Final = 0.1


class CellWatch:
    """Watches over the cells of one run, one at a time; `close` it at the end."""

    def __init__(
        self,
        request: RunNotebook,
        kernel: Kernel,
        client: CellClient,
        stop: Stop,
        reports: OutputReports,
    ) -> None:
        self._request = request
        self._kernel = kernel
        self._client = client
        self._stop = stop
        self._reports = reports
        self._stopping = asyncio.create_task(stop.event.wait())
        self._dying = asyncio.create_task(kernel.died.wait())
        self._asking = asyncio.create_task(client.watch_stdin())

    async def close(self) -> None:
        """End what waits in the background."""
        tasks = (self._stopping, self._dying, self._asking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def until_done(
        self, task: asyncio.Task[None], index: int, collector: OutputCollector
    ) -> CellStatus | None:
        """Wait for the cell, which `task` runs; end it when it must stop.

        Returns as what it was ended; None where it ended by itself. Nothing of it runs on in the
        supervising process.
        """
        client, died = self._client, self._kernel.died
        asking = client.asked_for_input
        saving: list[asyncio.Task[None]] = []
        forced = None
        try:
            await self._while_running(task, index, collector, saving)
            if asking.done() and not task.done() and not died.is_set():
                # Some kernels take an interrupt only when they are no more waiting for the answer.
                await self._kernel.interrupt()
                client.answer_nothing()
                await asyncio.wait(
                    {task, self._stopping, self._dying},
                    timeout=self._request.grace,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if not task.done() and not died.is_set() and client.reply is None:
                if not asking.done() or self._stop.event.is_set():
                    forced = stopped_as(self._stop)
                else:
                    await asyncio.wait({task, self._dying}, timeout=_ASKED_SECONDS)
                await self._force_stop(task)
            await self._drain(task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # Not cancelled: half a message would be the end of all understanding.
            await asyncio.gather(*saving)
        return forced

    async def _while_running(
        self,
        task: asyncio.Task[None],
        index: int,
        collector: OutputCollector,
        saving: list[asyncio.Task[None]],
    ) -> None:
        """Wait until the cell is over, its time is up, or it needs something to be done.

        Meanwhile its output is reported now and then, by the last task of `saving`.
        """
        request = self._request
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limit = None if request.cell_timeout is None else begun + request.cell_timeout
        save_at = None
        if request.save_intermediate_results and request.capture_outputs:
            save_at = begun + _FIRST_SAVE_SECONDS
        while True:
            until = min((at for at in (limit, save_at) if at is not None), default=None)
            done, _ = await asyncio.wait(
                (task, self._stopping, self._dying, self._client.asked_for_input),
                timeout=None if until is None else max(until - loop.time(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            now = loop.time()
            if limit is not None and self._client.reply is not None:
                # The cell is over in time; what it has put out is still on its way.
                limit = None
            if done or (limit is not None and now >= limit):
                return
            if save_at is not None and now >= save_at:
                save_at = now + max(_FIRST_SAVE_SECONDS, _SAVE_RATIO * (now - begun))
                if not saving or saving[-1].done():
                    saving[:] = [asyncio.create_task(self._reports.so_far(index, collector))]

    async def _drain(self, task: asyncio.Task[None]) -> None:
        """Take what a kernel that has ended, or a cell that has to, still sent.

        It takes no longer than a stop may: what a kernel sends may have no end. Then the rest is
        missing.
        """
        reception = self._client.reception
        if not self._kernel.died.is_set() and self._client.reply is None:
            return
        until = time.monotonic() + self._request.grace
        while not task.done():
            if time.monotonic() >= until:
                reception.note_cut()
                break
            before = reception.count
            await asyncio.wait({task}, timeout=_DRAIN_SECONDS)
            if reception.count == before:
                break

    async def _force_stop(self, task: asyncio.Task[Any]) -> None:
        grace, dying = self._request.grace, self._dying
        if self._stop.outcome in LIMIT_OUTCOMES:
            # What it takes more meanwhile is taken from others.
            self._kernel.signal(signal.SIGKILL)
            await asyncio.wait({dying}, timeout=_KILL_SECONDS)
            return
        # A kernel ignores interrupts between cells: one that came before the cell began is lost.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BEGIN_SECONDS):
                await self._client.routing.executing.wait()
        self._client.idle.clear()
        await self._kernel.interrupt()
        # One that was stopped heeds nothing before this.
        self._kernel.signal(signal.SIGCONT)
        idle = asyncio.create_task(self._client.idle.wait())
        ends = {task, dying, idle}
        early = min(_BEGIN_SECONDS, grace)
        await asyncio.wait(ends, timeout=early, return_when=asyncio.FIRST_COMPLETED)
        if not any(each.done() for each in ends):
            # The first may have been lost where the kernel was just about to begin.
            await self._kernel.interrupt()
            await asyncio.wait(ends, timeout=grace - early, return_when=asyncio.FIRST_COMPLETED)
        if idle.done() and not task.done():
            # ipykernel gives no reply to a request that was interrupted before its first line.
            await asyncio.wait({task, dying}, timeout=_REPLY_SECONDS)
        idle.cancel()
        if task.done() or dying.done():
            return
        # Not by `idle` alone, which the cell can publish itself.
        if self._client.idle.is_set() and await self._client.is_free(_REPLY_SECONDS):
            return
        self._kernel.signal(signal.SIGTERM)
        await asyncio.wait({task, dying}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            return
        self._kernel.signal(signal.SIGKILL)
        await asyncio.wait({dying}, timeout=_KILL_SECONDS)
