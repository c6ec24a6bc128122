"""Runs the cells of one notebook on a started kernel and reports each."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nbformat
from traitlets.config import Config

from nbledger_workers.kernel.client import CollectingClient
from nbledger_workers.kernel.outputs import (
    ErrorText,
    OutputCollector,
    clean,
    error_text,
)
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellStarted,
    CellStatus,
    Outcome,
    OutputsUpdated,
    RunNotebook,
    UpMessage,
)
from nbledger_workers.kernel.startup import Kernel
from nbledger_workers.kernel.stop import Stop
from nbledger_workers.kernel.usage import UsageSampler

_BEGIN_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 0.3
_KILL_SECONDS: Final = 5.0
# The wait for a kernel's last output after its reply; a dead kernel ends it sooner.
_IOPUB_SECONDS: Final = 300
_CLEAN_EXITS: Final = frozenset({"", "0", "None"})

Send = Callable[[UpMessage], Awaitable[None]]


class Cells:
    """The cells of one run: `run` each in order; `end` is what ended the run before the last."""

    def __init__(
        self, request: RunNotebook, kernel: Kernel, used: UsageSampler, stop: Stop, send: Send
    ) -> None:
        self.failed: list[int] = []
        self.end: tuple[Outcome, str] | None = None
        self._request = request
        self._kernel = kernel
        self._used = used
        self._stop = stop
        self._send = send
        self._confirmed = asyncio.Event()
        self._reply: dict[str, Any] = {}
        self._started: tuple[dt.datetime, float] | None = None
        self._notebook: Any = None
        self._client: Any = None

    def attach(self) -> None:
        """Read the notebook and take the kernel's channels; call when the kernel has started."""
        text = self._request.notebook.decode("utf-8")
        self._notebook = nbformat.v4.reads(text)  # type: ignore[no-untyped-call]
        self._client = CollectingClient(
            self._notebook,
            self._kernel.manager,
            config=Config(),
            allow_errors=True,
            record_timing=False,
            iopub_timeout=_IOPUB_SECONDS,
            raise_on_iopub_timeout=True,
            on_cell_executed=self._on_cell_executed,
        )
        self._client.kc = self._kernel.client

    def confirm(self) -> None:
        """Let held cells go to the kernel."""
        self._confirmed.set()

    def finish(self, outcome: Outcome, detail: str = "") -> None:
        """Note the outcome; the first one stays."""
        if self.end is None:
            self.end = (outcome, detail)

    async def run(self, index: int) -> None:
        """Run or skip one cell and report it."""
        if self.end is None and self._stop.outcome is not None:
            self.finish(self._stop.outcome, self._stop.detail)
        if self.end is None and self._kernel.died.is_set():
            self.finish(Outcome.KERNEL_DIED, self._kernel.death())
        if self.end is not None:
            await self._send(CellFinished(index=index, status=CellStatus.SKIPPED))
            return
        cell = self._notebook.cells[index]
        tags = cell.metadata.get("tags", [])
        if "skip-execution" in tags:
            await self._send(CellFinished(index=index, status=CellStatus.SKIPPED))
        elif cell.cell_type != "code" or not cell.source.strip():
            await self._send(CellFinished(index=index, status=CellStatus.SUCCESS))
        else:
            await self._code_cell(index, cell, may_fail="raises-exception" in tags)

    async def _code_cell(self, index: int, cell: Any, *, may_fail: bool) -> None:
        client = self._client
        request = self._request
        collector = OutputCollector(request.max_output_bytes, keep=request.capture_outputs)
        client.collectors[index] = collector
        client.executing.clear()
        self._reply, self._started = {}, None
        cell.pop("outputs", None)
        await self._report_started(index)
        error: ErrorText | None = None
        if index in request.held_cells and not await self._released():
            status = _stopped_as(self._stop)
        else:
            # Its time counts from here, not from where it waited.
            self._started = (dt.datetime.now(dt.UTC), time.monotonic())
            task = asyncio.create_task(client.async_execute_cell(cell, index))
            forced = await self._until_done(task, client.executing)
            status, error = self._verdict(task, forced)
        content = self._reply
        if status is CellStatus.ERROR and error is not None:
            if may_fail and not self._kernel.died.is_set():
                status = CellStatus.SUCCESS
            elif error.name == "SystemExit" and error.value in _CLEAN_EXITS:
                status, error = CellStatus.SUCCESS, None
                collector.drop_error()
                self.finish(Outcome.COMPLETED, "a cell ended the program")
        if any(payload.get("source") == "ask_exit" for payload in content.get("payload") or []):
            self.finish(Outcome.COMPLETED, "a cell ended the program")
        self._conclude(index, status, error)
        self._used.sample_if_due()
        await self._report_changed(client)
        started, began = self._begun()
        await self._send(
            CellFinished(
                index=index,
                status=status,
                execution_count=content.get("execution_count"),
                started=started,
                ended=None if started is None else dt.datetime.now(dt.UTC),
                duration=None if began is None else time.monotonic() - began,
                error_name=error.name if error else None,
                error_value=error.value if error else None,
                traceback=error.traceback if error else [],
                outputs=collector.outputs(),
                output_bytes=collector.output_bytes,
                output_count=collector.output_count,
                truncated=collector.truncated,
            )
        )
        if not collector.has_displays:
            del client.collectors[index]

    async def _released(self) -> bool:
        """Wait until held cells may go; False when the run must stop before."""
        events = (self._confirmed, self._stop.event, self._kernel.died)
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return not self._stop.event.is_set()

    async def _until_done(
        self, task: asyncio.Task[Any], executing: asyncio.Event
    ) -> CellStatus | None:
        """Wait for the cell; end it when it must stop, and tell as what it was ended."""
        stopping = asyncio.create_task(self._stop.event.wait())
        dying = asyncio.create_task(self._kernel.died.wait())
        forced = None
        try:
            await asyncio.wait(
                {task, stopping, dying},
                timeout=self._request.cell_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not task.done() and not self._kernel.died.is_set():
                forced = _stopped_as(self._stop)
                await self._force_stop(task, dying, executing)
            if self._kernel.died.is_set():
                # What the kernel still sent is on its way.
                await asyncio.wait({task}, timeout=_DRAIN_SECONDS)
        finally:
            for each in (task, stopping, dying):
                each.cancel()
            await asyncio.gather(task, stopping, dying, return_exceptions=True)
        return forced

    async def _force_stop(
        self, task: asyncio.Task[Any], dying: asyncio.Task[Any], executing: asyncio.Event
    ) -> None:
        grace = self._request.grace
        # A kernel ignores interrupts between cells: one that came before the cell began is lost.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BEGIN_SECONDS):
                await executing.wait()
        await self._kernel.interrupt()
        await asyncio.wait({task, dying}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if task.done() or dying.done():
            return
        self._kernel.signal(signal.SIGTERM)
        await asyncio.wait({task, dying}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            return
        self._kernel.signal(signal.SIGKILL)
        await asyncio.wait({dying}, timeout=_KILL_SECONDS)

    def _verdict(
        self, task: asyncio.Task[Any], forced: CellStatus | None
    ) -> tuple[CellStatus, ErrorText | None]:
        reply = self._reply
        told = error_text(reply) if reply.get("status") == "error" else None
        if forced is not None:
            return forced, told
        if reply:
            if told is None and reply.get("status") != "ok":
                told = ErrorText("Aborted", "the kernel aborted the request", [])
            return (CellStatus.SUCCESS if told is None else CellStatus.ERROR), told
        if self._kernel.died.is_set():
            return CellStatus.ERROR, ErrorText("KernelDied", self._kernel.death(), [])
        failure = None if task.cancelled() else task.exception()
        if failure is None:
            return CellStatus.ERROR, ErrorText("NoReply", "the kernel gave no reply", [])
        return CellStatus.ERROR, ErrorText(type(failure).__name__, clean(str(failure)), [])

    def _conclude(self, index: int, status: CellStatus, error: ErrorText | None) -> None:
        """Note what a cell's end means for the run."""
        if status in (CellStatus.ERROR, CellStatus.TIMED_OUT):
            self.failed.append(index)
        stopped = self._stop.outcome
        if status is CellStatus.CANCELLED or (status is CellStatus.TIMED_OUT and stopped):
            self.finish(stopped or Outcome.CANCELLED, self._stop.detail)
        elif status is CellStatus.TIMED_OUT:
            if self._kernel.died.is_set() or not self._request.continue_on_error:
                limit = self._request.cell_timeout
                self.finish(Outcome.TIMED_OUT, f"a cell took longer than {limit:g} seconds")
        elif self._kernel.died.is_set() and not self._reply:
            self.finish(Outcome.KERNEL_DIED, self._kernel.death())
        elif status is CellStatus.ERROR and not self._request.continue_on_error:
            self.finish(Outcome.CELL_ERROR, f"{error.name}: {error.value}" if error else "")

    def _begun(self) -> tuple[dt.datetime | None, float | None]:
        """When the running cell was sent, by wall clock and monotonic clock."""
        return self._started or (None, None)

    async def _report_changed(self, client: CollectingClient) -> None:
        for index in sorted(client.changed):
            collector = client.collectors[index]
            await self._send(
                OutputsUpdated(
                    index=index,
                    outputs=collector.outputs(),
                    output_bytes=collector.output_bytes,
                    output_count=collector.output_count,
                    truncated=collector.truncated,
                )
            )
        client.changed.clear()

    async def _report_started(self, index: int) -> None:
        self._started = (dt.datetime.now(dt.UTC), time.monotonic())
        await self._send(CellStarted(index=index, started=self._started[0]))

    def _on_cell_executed(self, execute_reply: dict[str, Any], **_: Any) -> None:
        self._reply = execute_reply["content"]


def _stopped_as(stop: Stop) -> CellStatus:
    """The status of a cell that had to stop: without a reason its own time was up."""
    return CellStatus.CANCELLED if stop.outcome is Outcome.CANCELLED else CellStatus.TIMED_OUT
