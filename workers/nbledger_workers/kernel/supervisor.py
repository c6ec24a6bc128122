"""Runs one notebook on one kernel and reports each cell; lives in the supervising child."""

from __future__ import annotations

import asyncio

import psutil

from nbledger_workers.kernel.cells import Cells, Send
from nbledger_workers.kernel.outputs import clean
from nbledger_workers.kernel.protocol import Launch, Outcome, RunFinished
from nbledger_workers.kernel.startup import Kernel, StartError
from nbledger_workers.kernel.stop import Stop
from nbledger_workers.kernel.usage import UsageSampler


class Supervisor:
    """One run: `run` starts the kernel, runs the cells, ends the kernel and tells the outcome."""

    def __init__(self, launch: Launch, send: Send, stop: Stop) -> None:
        self._request = launch.run
        self._send = send
        self._stop = stop
        self._used = UsageSampler(
            launch.run.working_dir,
            launch.run.limits,
            lambda exceeded: stop.set(exceeded.outcome, exceeded.detail),
        )
        self._sampling: asyncio.Task[None] | None = None
        self._kernel = Kernel(launch, self._watch_usage)
        self._cells = Cells(self._request, self._kernel, self._used, stop, send)

    @property
    def group(self) -> int | None:
        """Process group of the kernel, which leads a session of its own; None before its start."""
        return self._kernel.group

    def confirm(self) -> None:
        """Let held cells go to the kernel."""
        self._cells.confirm()

    async def run(self) -> RunFinished:
        """Run to the end. Whatever happens, the kernel is gone afterwards."""
        request, cells = self._request, self._cells
        loop = asyncio.get_running_loop()
        deadline = None
        if request.timeout is not None:
            deadline = loop.call_later(
                request.timeout,
                self._stop.set,
                Outcome.TIMED_OUT,
                f"the run took longer than {request.timeout:g} seconds",
            )
        try:
            try:
                await self._start()
            except StartError as error:
                cells.finish(Outcome.FAILED_TO_START, str(error))
            for index in request.cells_to_run:
                await cells.run(index)
        finally:
            if deadline is not None:
                deadline.cancel()
            await self._end()
        outcome, detail = cells.end or (Outcome.COMPLETED, "")
        return RunFinished(
            outcome=outcome,
            detail=detail,
            failed_cells=cells.failed,
            peak_memory_bytes=self._used.peak_memory_bytes,
            cpu_seconds=self._used.cpu_seconds,
            disk_bytes=self._used.disk_bytes,
        )

    def _watch_usage(self, process: psutil.Process) -> None:
        self._used.begin(process.pid)
        self._sampling = asyncio.create_task(self._used.watch(self._send))

    async def _start(self) -> None:
        starting = asyncio.create_task(self._kernel.start())
        stopping = asyncio.create_task(self._stop.event.wait())
        dying = asyncio.create_task(self._kernel.died.wait())
        try:
            await asyncio.wait(
                {starting, stopping, dying},
                timeout=self._request.startup_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if starting.done() and starting.exception() is None:
                self._cells.attach()
                await self._send(starting.result())
            elif self._stop.outcome is not None:
                self._cells.finish(self._stop.outcome, self._stop.detail)
            elif starting.done():
                raise StartError(clean(str(starting.exception())))
            elif self._kernel.died.is_set():
                raise StartError(f"the kernel ended before it was ready{self._kernel.last_words()}")
            else:
                raise StartError(
                    f"the kernel was not ready within {self._request.startup_timeout:g} seconds"
                    f"{self._kernel.last_words()}"
                )
        finally:
            for task in (starting, stopping, dying):
                task.cancel()
            await asyncio.gather(starting, stopping, dying, return_exceptions=True)

    async def _end(self) -> None:
        self._used.sample()
        outcome = self._cells.end[0] if self._cells.end else Outcome.COMPLETED
        await self._cells.close()
        await self._kernel.end(politely=outcome in (Outcome.COMPLETED, Outcome.CELL_ERROR))
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
        await self._used.measure_disk()
        self._used.conclude()
