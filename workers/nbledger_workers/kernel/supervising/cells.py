"""Runs the cells of one notebook on a started kernel and reports each."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from nbledger_domain.words import MOST_LISTED, counted
from nbledger_workers.kernel.channels.cell_end import Told
from nbledger_workers.kernel.channels.client import CellClient
from nbledger_workers.kernel.outputs.budget import Budget
from nbledger_workers.kernel.outputs.collector import MAX_CHANGES, OutputCollector
from nbledger_workers.kernel.outputs.errors import ErrorText, error_text
from nbledger_workers.kernel.outputs.widgets import WidgetStates
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellStarted,
    CellStatus,
    Outcome,
    RunNotebook,
    WidgetsLeft,
)
from nbledger_workers.kernel.resources.limits import LIMIT_OUTCOMES
from nbledger_workers.kernel.resources.usage import UsageSampler
from nbledger_workers.kernel.supervising import verdict
from nbledger_workers.kernel.supervising.cell_watch import CellWatch
from nbledger_workers.kernel.supervising.handed_back import HandedBack
from nbledger_workers.kernel.supervising.output_reports import OutputReports, Send
from nbledger_workers.kernel.supervising.startup import Kernel
from nbledger_workers.kernel.supervising.stop import Stop
from nbledger_workers.kernel.supervising.time_limit import TimeLimit

# So long after a kernel's end nothing more of what it sent has arrived.
_LATE_SECONDS: Final = 0.02
# Text that changes no more and has not been sent: more is not kept in memory.
_MAX_WAITING_BYTES: Final = 8 * 1024 * 1024

_JOINED: Final = (
    f"stdout and stderr took turns more than {MAX_CHANGES} times: text after that is joined, one "
    "output for each stream"
)
_LATE_REPLY: Final = (
    "the kernel replied once more to a cell that was over: how that one ended may not be true"
)
_WRITTEN_CUT: Final = "more was written past the kernel's messages than is kept"
_MAPPED: Final = "later cells can change its results unseen, which are mapped into memory"
_ENDED: Final = "a cell ended the program"
_NOT_RUN: Final = "it did not run: a task or a callback of a cell before had ended the program"


class Cells:
    """The cells of one run: `run` each in order; `end` is what ended the run before the last."""

    def __init__(
        self,
        request: RunNotebook,
        kernel: Kernel,
        used: UsageSampler,
        stop: Stop,
        send: Send,
        *,
        limit: TimeLimit | None,
        handed_back: HandedBack,
    ) -> None:
        self.end: tuple[Outcome, str] | None = None
        #: Cells of code that did not run, as the run had ended before them.
        self.passed_over = 0
        #: What the kernel told with its last reply; None where it did not come back from a cell.
        self.told: Told | None = Told()
        self._request = request
        self._kernel = kernel
        self._used = used
        self._stop = stop
        self._send = send
        self._limit = limit
        self._handed_back = handed_back
        self._confirmed = asyncio.Event()
        self._reply: dict[str, Any] = {}
        self._started: tuple[dt.datetime, float] | None = None
        self._held = frozenset(request.held_cells)
        self._budget = Budget(request.max_output_bytes_per_run)
        self._cells: list[dict[str, Any]] = []
        self._client: Any = None
        self._reports: Any = None
        self._watch: CellWatch | None = None

    def attach(self) -> None:
        """Read the notebook and take the kernel's channels; call when the kernel has started."""
        self._cells = msgspec.json.decode(self._request.notebook)["cells"]
        kernel = self._kernel
        client = CellClient(kernel.client, kernel.passages, mark_key=kernel.mark_key)
        if self._request.capture_outputs:
            widgets = WidgetStates(self._request.max_output_bytes, self._budget)
            client.routing.widgets = widgets
        self._client = client
        self._reports = OutputReports(self._send, client.routing)
        self._watch = CellWatch(self._request, self._kernel, client, self._stop, self._reports)

    async def report_widgets(self) -> None:
        """Report the widgets of all cells, where there are any; call after the last cell."""
        widgets = self._client.routing.widgets
        if widgets is None:
            return
        state = widgets.encoded()
        if state is not None or widgets.dropped:
            await self._send(WidgetsLeft(state=state))

    def begin_end(self, farewell: str) -> Coroutine[Any, Any, None]:
        """Make what the kernel puts out from now on a part of the last cell.

        Call it before the kernel is asked to end; what it returns takes the output until it is
        cancelled. A kernel that tells when all is sent publishes `farewell` then.
        """
        if self._client is None:
            return asyncio.sleep(0)
        self._client.begin_end(farewell)
        taking: Coroutine[Any, Any, None] = self._client.take_ending()
        return taking

    async def report_late(self, *, ended: bool, cut: bool = False) -> list[str]:
        """Report what came after the last cell, as a part of that; warnings of the run.

        `ended` says that the kernel has ended: then all that it has sent is waited for. `cut` says
        that it was killed while it ended in order.
        """
        client, written = self._client, self._kernel.output
        if client is None:
            return []
        loss = await client.take_late(seconds=_LATE_SECONDS if ended else 0, cut=cut)
        if ended:
            client.routing.add_text(written.take())
            if written.take_cut() and loss is None and client.routing.last is not None:
                loss = _WRITTEN_CUT
                client.routing.last.note_loss()
        await self._reports.changed()
        warnings = []
        if loss is not None:
            warnings.append(f"The output of the last cell may not be whole: {loss}.")
        if client.late_replies:
            warnings.append(f"After the last cell, {_LATE_REPLY}.")
        return warnings

    async def close(self) -> None:
        """End what waits in the background."""
        if self._watch is not None:
            await self._watch.close()

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
            self.finish(Outcome.KERNEL_DIED, self._death())
        cell = self._cells[index]
        tags = cell["metadata"].get("tags") or []
        source = _joined(cell["source"])
        has_code = cell["cell_type"] == "code" and bool(source.strip())
        if self.end is not None or "skip-execution" in tags:
            self.passed_over += has_code and "skip-execution" not in tags
            await self._send(CellFinished(index=index, status=CellStatus.SKIPPED))
        elif not has_code:
            await self._send(CellFinished(index=index, status=CellStatus.SUCCESS))
        else:
            await self._code_cell(index, source, may_fail="raises-exception" in tags)

    async def _code_cell(self, index: int, source: str, *, may_fail: bool) -> None:
        client = self._client
        collector = self._new_collector()
        client.begin(index, collector)
        self._reply, self._started = {}, None
        await self._report_started(index)
        status, error, exits = await self._run_code(index, source, collector)
        if status is CellStatus.ERROR and error is not None:
            if may_fail and not self._kernel.died.is_set() and self._stop.outcome is None:
                status = CellStatus.SUCCESS
            elif exits:
                status, error = self._ended_clean(), None
                # Not what else it has shown: that may be another error.
                collector.drop_error(error_text(self._reply))
                self.finish(Outcome.COMPLETED, _ENDED)
        self._take_payload(self._reply, collector)
        self._take_rest(collector)
        collector.close()
        warnings = self._warnings(collector)
        self._conclude(index, status, error)
        if self._asks_exit():
            # After that: an error, a timeout or a cancel that ends the run is what it ends as.
            self.finish(Outcome.COMPLETED, _ENDED)
        resources = self._used.cell_ends()
        await self._reports.changed()
        await self._reports.parts(index, collector)
        started, began = self._begun()
        # Before the next cell begins, which could hand back in this one's name.
        (handed_back, mapped), looked_ns = self._handed_back.new(), time.time_ns()
        if mapped:
            warnings.append(f"{_MAPPED}: {', '.join(mapped[:MOST_LISTED])}")
        await self._send(
            CellFinished(
                index=index,
                status=status,
                execution_count=self._reply.get("execution_count"),
                started=started,
                ended=None if started is None else dt.datetime.now(dt.UTC),
                duration=None if began is None else time.monotonic() - began,
                error_name=error.name if error else None,
                error_value=error.value if error else None,
                traceback=error.traceback if error else [],
                outputs=collector.outputs(),
                output_bytes=collector.output_bytes,
                output_count=collector.output_count,
                outputs_digest=collector.digest(),
                truncated=collector.truncated,
                warnings=warnings,
                resources=resources,
                handed_back=handed_back,
                looked_ns=looked_ns,
            )
        )
        client.routing.conclude()

    def _ended_clean(self) -> CellStatus:
        """The status of a cell in which the program has ended well, or before which it had."""
        if self._ran():
            return CellStatus.SUCCESS
        self.passed_over += 1
        return CellStatus.SKIPPED

    def _ran(self) -> bool:
        told = self._client.told
        return told is None or bool(told.ran)

    def _new_collector(self) -> OutputCollector:
        request = self._request
        return OutputCollector(
            request.max_output_bytes,
            max_outputs=request.max_outputs,
            budget=self._budget,
            keep=request.capture_outputs,
        )

    async def _run_code(
        self, index: int, source: str, collector: OutputCollector
    ) -> tuple[CellStatus, ErrorText | None, bool]:
        """Have the kernel run it; how it ended, and whether by a SystemExit without an error."""
        client, watch = self._client, self._watch
        assert watch is not None  # noqa: S101 - `attach` was called
        if index in self._held and not await self._released():
            return verdict.stopped_as(self._stop), None, False
        # Its time counts from here, not from where it waited.
        self._started = (dt.datetime.now(dt.UTC), time.monotonic())
        self._used.cell_begins()
        self._kernel.output.begin()

        async def relieve() -> None:
            if collector.waiting > _MAX_WAITING_BYTES:
                await self._reports.parts(index, collector)

        task = asyncio.create_task(client.run_cell(source, on_output=relieve))
        forced = await watch.until_done(task, index, collector)
        self._reply = client.reply or {}
        status, error = self._verdict(task, forced, collector.errors)
        if error is not None and (error is verdict.NO_INPUT or forced is CellStatus.ERROR):
            collector.add(_error_message(error))
        told = client.told
        by_itself = forced is None and error is not verdict.NO_INPUT
        return status, error, by_itself and told is not None and told.exit_status == 0

    def _verdict(
        self, task: asyncio.Task[None], forced: CellStatus | None, shown: list[ErrorText]
    ) -> tuple[CellStatus, ErrorText | None]:
        died = self._kernel.died.is_set()
        if forced is not None:
            return verdict.stopped(forced, self._stop, self._reply, shown)
        if self._client.asked_for_input.done() and not died:
            return CellStatus.ERROR, verdict.NO_INPUT
        if died and not self._reply:
            return CellStatus.ERROR, ErrorText("KernelDied", self._death(), [])
        return verdict.ended(task, self._reply, shown)

    def _take_rest(self, collector: OutputCollector) -> None:
        """What comes otherwise than by messages, or beside what they are for."""
        told = self._client.told
        if told is not None:
            self.told = told
        elif not self._client.idle.is_set():
            self.told = None
        for name, text in self._kernel.output.take().items():
            collector.add({"msg_type": "stream", "content": {"name": name, "text": text}})

    def _take_payload(self, content: dict[str, Any], collector: OutputCollector) -> None:
        for payload in content.get("payload") or []:
            if payload.get("source") == "page":
                # Help and the like, for which other front ends open a pager.
                collector.add({"msg_type": "display_data", "content": payload})

    def _asks_exit(self) -> bool:
        """Whether the cell has told the kernel to end, as `exit()` does."""
        payloads = self._reply.get("payload") or []
        return any(payload.get("source") == "ask_exit" for payload in payloads)

    def _warnings(self, collector: OutputCollector) -> list[str]:
        """What is not as it should be with the output of the cell that is over."""
        client = self._client
        warnings = []
        loss = client.loss
        if loss is None and self._kernel.died.is_set() and not self._reply:
            loss = "the kernel ended while it ran, and what it had not sent by then is lost"
        if self._kernel.output.take_cut() and loss is None:
            loss = _WRITTEN_CUT
        if loss is not None:
            collector.note_loss()
            warnings.append(f"its output may not be whole: {loss}")
        if client.replies > 1:
            warnings.append("the kernel replied to it more than once, of which the last counts")
        if client.late_replies:
            warnings.append(_LATE_REPLY)
        if collector.joined:
            warnings.append(_JOINED)
        if not self._ran():
            warnings.append(_NOT_RUN)
        return warnings

    async def _released(self) -> bool:
        """Wait until held cells may go; False when the run must stop before.

        Its time stands still meanwhile: who confirms waits for a store, not for the notebook.
        """
        if self._confirmed.is_set():
            return not self._stop.event.is_set()
        events = (self._confirmed, self._stop.event, self._kernel.died)
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            with contextlib.nullcontext() if self._limit is None else self._limit.paused():
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return not self._stop.event.is_set()

    def _conclude(self, index: int, status: CellStatus, error: ErrorText | None) -> None:
        """Note what a cell's end means for the run."""
        stopped = self._stop.outcome
        if stopped is not None and stopped in LIMIT_OUTCOMES and status is CellStatus.ERROR:
            self.finish(stopped, self._stop.detail)
        elif status is CellStatus.CANCELLED or (status is CellStatus.TIMED_OUT and stopped):
            self.finish(stopped or Outcome.CANCELLED, self._stop.detail)
        elif status is CellStatus.TIMED_OUT:
            if self._kernel.died.is_set() or not self._request.continue_on_error:
                limit = counted(self._request.cell_timeout or 0, "second")
                name = self._cells[index].get("id", index + 1)
                self.finish(Outcome.CELL_TIMED_OUT, f"the cell {name} took longer than {limit}")
        elif self._kernel.died.is_set() and not self._reply:
            self.finish(Outcome.KERNEL_DIED, self._death())
        elif status is CellStatus.ERROR and not self._request.continue_on_error:
            self.finish(Outcome.CELL_ERROR, f"{error.name}: {error.value}" if error else "")

    def _death(self) -> str:
        """How the kernel ended, in words; where it can be told, that memory ran out."""
        how = self._kernel.death()
        return f"the machine's memory ran out: {how}" if self._used.ended_for_memory() else how

    def _begun(self) -> tuple[dt.datetime | None, float | None]:
        """When the running cell was sent, by wall clock and monotonic clock."""
        return self._started or (None, None)

    async def _report_started(self, index: int) -> None:
        self._started = (dt.datetime.now(dt.UTC), time.monotonic())
        await self._send(CellStarted(index=index, started=self._started[0]))


def _error_message(error: ErrorText) -> dict[str, Any]:
    content = {"ename": error.name, "evalue": error.value, "traceback": error.traceback}
    return {"msg_type": "error", "content": content}


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
