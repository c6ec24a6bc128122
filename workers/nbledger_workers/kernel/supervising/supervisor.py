"""Starts a kernel, waits for a notebook, runs it and reports each cell; lives in the child."""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from nbledger_domain.words import counted
from nbledger_workers.kernel.outputs.errors import clean
from nbledger_workers.kernel.processes.environment import run_file
from nbledger_workers.kernel.protocol import (
    START_SECONDS,
    Launch,
    Outcome,
    RunFinished,
    RunNotebook,
)
from nbledger_workers.kernel.resources.usage import UsageSampler
from nbledger_workers.kernel.supervising.cells import Cells
from nbledger_workers.kernel.supervising.ending import cut_processes, cut_tasks, end_in_order
from nbledger_workers.kernel.supervising.handed_back import HandedBack
from nbledger_workers.kernel.supervising.output_reports import Send
from nbledger_workers.kernel.supervising.startup import Kernel, StartError
from nbledger_workers.kernel.supervising.stop import Stop
from nbledger_workers.kernel.supervising.time_limit import TimeLimit

# Outcomes after which the kernel is asked to end, so that its exit hooks run.
_POLITE: Final = (Outcome.COMPLETED, Outcome.CELL_ERROR)
# Outcomes after which they may run, where the kernel heeded its interrupt, for so many seconds.
_STOPPED: Final = (Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.CELL_TIMED_OUT)
_STOPPED_SECONDS: Final = 2.0


class Supervisor:
    """One kernel and one run: `run` starts the kernel and runs what `begin` asks for.

    `close` must follow, whatever happened: then the kernel is gone.
    """

    def __init__(
        self, launch: Launch, send: Send, stop: Stop, channel: socket.socket | None = None
    ) -> None:
        self._launch = launch
        self._send = send
        self._stop = stop
        self._kernel = Kernel(launch, channel)
        self._asked = asyncio.Event()
        self._request: RunNotebook | None = None
        self._used: UsageSampler | None = None
        self._cells: Cells | None = None
        self._sampling: asyncio.Task[None] | None = None
        self._limit: TimeLimit | None = None
        self._closed = False
        # Whether the kernel had begun to end in order and had to be killed.
        self._cut = False

    def begin(self, request: RunNotebook) -> None:
        """Run this; its time counts from here."""
        self._request = request
        self._used = UsageSampler(
            self._launch.working_dir,
            request.limits,
            lambda exceeded: self._stop.set(exceeded.outcome, exceeded.detail),
        )
        if request.timeout is not None:
            self._limit = TimeLimit(
                request.timeout,
                partial(
                    self._stop.set,
                    Outcome.TIMED_OUT,
                    f"the run took longer than {counted(request.timeout, 'second')}",
                ),
            )
        self._cells = Cells(
            request,
            self._kernel,
            self._used,
            self._stop,
            self._send,
            limit=self._limit,
            handed_back=HandedBack(Path(self._launch.working_dir), self._used.mapped_files),
        )
        self._asked.set()

    def confirm(self) -> None:
        """Let held cells go to the kernel."""
        if self._cells is not None:
            self._cells.confirm()

    def abandon(self) -> None:
        """Kill the kernel and all that it started, at once and from any thread."""
        self._kernel.abandon()

    async def run(self) -> RunFinished:
        """Run to the end of the last cell."""
        try:
            await self._start()
            await self._until_asked()
        except StartError as error:
            return await self._finished(Outcome.FAILED_TO_START, str(error))
        if self._stop.outcome is not None:
            return await self._finished(self._stop.outcome, self._stop.detail)
        request, cells, used = self._request, self._cells, self._used
        group = self._kernel.group
        if request is None or cells is None or used is None or group is None or self._died():
            return await self._finished(Outcome.KERNEL_DIED, self._kernel.death())
        used.begin(group)
        self._sampling = asyncio.create_task(used.watch(self._send))
        self._write_run_file(request)
        cells.attach()
        for index in request.cells_to_run:
            await cells.run(index)
        await cells.report_widgets()
        outcome, detail = cells.end or (Outcome.COMPLETED, "")
        finished = await self._finished(outcome, detail)
        if outcome is Outcome.COMPLETED and (left := cells.passed_over):
            told = f"The notebook ended the run itself: {counted(left, 'cell')} did not run."
            finished = msgspec.structs.replace(finished, warnings=[told, *finished.warnings])
        return finished

    def _died(self) -> bool:
        return self._kernel.died.is_set()

    async def _finished(self, outcome: Outcome, detail: str) -> RunFinished:
        cells, used = self._cells, self._used
        if used is None:
            await self.close(politely=False)
            return RunFinished(outcome=outcome, detail=detail)
        used.sample()
        warnings = await self._end_kernel(outcome, used)
        if cells is not None:
            warnings += await cells.report_late(ended=self._died(), cut=self._cut)
        await used.measure_disk()
        return RunFinished(
            outcome=outcome,
            detail=detail,
            warnings=warnings,
            peak_memory_bytes=used.peak_memory_bytes,
            cpu_seconds=used.cpu_seconds,
            disk_bytes=used.disk_bytes,
        )

    async def _end_kernel(self, outcome: Outcome, used: UsageSampler) -> list[str]:
        """End the kernel, unless that writes nothing and can wait; warnings of what was cut."""
        cells, request = self._cells, self._request
        seconds = 0.0
        warnings: list[str] = []
        if cells is not None and request is not None and not self._died():
            told = cells.told
            if outcome in _POLITE:
                warnings = [] if told is None else cut_tasks(told)
                if told is not None and not told.unfinished and self._needs_no_end(used):
                    return warnings
                seconds = request.exit_seconds
            elif outcome in _STOPPED and told is not None:
                seconds = min(_STOPPED_SECONDS, request.exit_seconds)
        if cells is not None and seconds > 0:
            warnings += await end_in_order(self._kernel, cells, self._stop, seconds=seconds)
            self._cut = not self._died()
        await self.close(politely=False)
        return warnings + cut_processes(self._kernel.left_processes)

    def _needs_no_end(self, used: UsageSampler) -> bool:
        """Whether the kernel tells all that its end has to finish, and has started nothing."""
        return self._kernel.is_ipython and not used.others

    async def close(self, *, politely: bool) -> None:
        """End the kernel: politely for its exit hooks, then by force."""
        if self._closed:
            return
        self._closed = True
        if self._limit is not None:
            self._limit.cancel()
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
        if self._cells is not None:
            await self._cells.close()
        await self._kernel.end(politely=politely)
        if self._used is not None:
            self._used.conclude()

    async def _start(self) -> None:
        """Start the kernel, unless the run must stop before; raises StartError."""
        kernel = self._kernel
        starting = asyncio.create_task(kernel.start())
        stopping = asyncio.create_task(self._stop.event.wait())
        dying = asyncio.create_task(kernel.died.wait())
        try:
            await asyncio.wait(
                {starting, stopping, dying},
                timeout=START_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if starting.done() and starting.exception() is None:
                await self._send(starting.result())
            elif self._stop.outcome is not None:
                pass
            elif starting.done():
                raise StartError(clean(str(starting.exception())))
            elif kernel.died.is_set():
                raise StartError(
                    f"the kernel ended before it was ready{kernel.output.last_words()}"
                )
            else:
                late = f"the kernel was not ready within {START_SECONDS:g} seconds"
                raise StartError(late + kernel.output.last_words())
        finally:
            for task in (starting, stopping, dying):
                task.cancel()
            await asyncio.gather(starting, stopping, dying, return_exceptions=True)

    async def _until_asked(self) -> None:
        """Wait for the run; a kernel that dies meanwhile ends the wait."""
        events = (self._asked, self._stop.event, self._kernel.died)
        if any(event.is_set() for event in events):
            return
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _write_run_file(self, request: RunNotebook) -> None:
        folder = Path(self._launch.working_dir)
        path = run_file(folder)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(request.context)
        owner = folder.stat()
        if owner.st_uid != os.geteuid():
            # The kernel runs as another user, who owns the folder by now.
            for each in (path.parent, path):
                os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)
