"""Runs the cells of one notebook on a started kernel and reports each."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from nbledger_domain.words import counted
from nbledger_workers.kernel.inside import ipython as inside
from nbledger_workers.kernel.outputs.budget import Budget
from nbledger_workers.kernel.outputs.collector import MAX_CHANGES, OutputCollector
from nbledger_workers.kernel.outputs.errors import ErrorText, clean, error_text
from nbledger_workers.kernel.outputs.widgets import WidgetStates
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellStarted,
    CellStatus,
    Outcome,
    OutputPart,
    OutputsSoFar,
    OutputsUpdated,
    RunNotebook,
    UpMessage,
    WidgetsLeft,
)
from nbledger_workers.kernel.resources.limits import ERROR_NAMES, LIMIT_OUTCOMES
from nbledger_workers.kernel.resources.usage import UsageSampler
from nbledger_workers.kernel.supervising.client import CellClient
from nbledger_workers.kernel.supervising.handed_back import HandedBack
from nbledger_workers.kernel.supervising.startup import Kernel
from nbledger_workers.kernel.supervising.stop import Stop
from nbledger_workers.kernel.supervising.time_limit import TimeLimit

_BEGIN_SECONDS: Final = 1.0
_REPLY_SECONDS: Final = 0.5
# R takes an interrupt badly until it has begun to wait for the input that it asked for.
_ASKED_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 0.3
_KILL_SECONDS: Final = 5.0
# So long after a kernel's end nothing more of what it sent has arrived.
_LATE_SECONDS: Final = 0.02
# What a running cell has put out is reported at the first of these ages and then each time that
# it has grown older by the other, so that reports of a long cell cost no more than its output.
_FIRST_SAVE_SECONDS: Final = 1.0
_SAVE_RATIO: Final = 0.1
# Text that changes no more and has not been sent: more is not kept in memory.
_MAX_WAITING_BYTES: Final = 8 * 1024 * 1024
_CLEAN_EXITS: Final = frozenset({"", "0", "None"})

_NO_INPUT: Final = ErrorText(
    "StdinNotImplementedError", "the cell asked for input, and there is nobody to give it", []
)

_JOINED: Final = (
    f"stdout and stderr took turns more than {MAX_CHANGES} times: text after that is joined, one "
    "output for each stream"
)

_LATE_REPLY: Final = (
    "the kernel replied once more to a cell that was over: how that one ended may not be true"
)

Send = Callable[[UpMessage], Awaitable[None]]


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
        #: What the kernel's end has to finish, in words, as its last reply told; None where it
        #: did not come back from a cell.
        self.unfinished: list[str] | None = []
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
        self._background: list[asyncio.Task[Any]] = []

    def attach(self) -> None:
        """Read the notebook and take the kernel's channels; call when the kernel has started."""
        self._cells = msgspec.json.decode(self._request.notebook)["cells"]
        client = self._client = CellClient(self._kernel.client, mark_key=self._kernel.mark_key)
        if self._request.capture_outputs:
            client.widgets = WidgetStates(self._request.max_output_bytes, self._budget)
        self._background = [
            asyncio.create_task(each)
            for each in (
                self._stop.event.wait(),
                self._kernel.died.wait(),
                client.watch_stdin(),
            )
        ]

    async def report_widgets(self) -> None:
        """Report the widgets of all cells, where there are any; call after the last cell."""
        widgets = self._client.widgets
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
        client = self._client
        if client is None:
            return []
        loss = await client.take_late(seconds=_LATE_SECONDS if ended else 0, cut=cut)
        if ended:
            client.add_late(self._kernel.written())
        await self._report_changed()
        warnings = []
        if loss is not None:
            warnings.append(f"The output of the last cell may not be whole: {loss}.")
        if client.late_replies:
            warnings.append(f"After the last cell, {_LATE_REPLY}.")
        return warnings

    async def close(self) -> None:
        """End what waits in the background."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

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
        if self.end is not None:
            await self._send(CellFinished(index=index, status=CellStatus.SKIPPED))
            return
        cell = self._cells[index]
        tags = cell["metadata"].get("tags") or []
        source = _joined(cell["source"])
        if "skip-execution" in tags:
            await self._send(CellFinished(index=index, status=CellStatus.SKIPPED))
        elif cell["cell_type"] != "code" or not source.strip():
            await self._send(CellFinished(index=index, status=CellStatus.SUCCESS))
        else:
            await self._code_cell(index, source, may_fail="raises-exception" in tags)

    async def _code_cell(self, index: int, source: str, *, may_fail: bool) -> None:
        client = self._client
        request = self._request
        collector = OutputCollector(
            request.max_output_bytes,
            max_outputs=request.max_outputs,
            budget=self._budget,
            keep=request.capture_outputs,
        )
        client.begin(index, collector)
        self._reply, self._started = {}, None
        await self._report_started(index)
        error: ErrorText | None = None
        if index in self._held and not await self._released():
            status = _stopped_as(self._stop)
        else:
            # Its time counts from here, not from where it waited.
            self._started = (dt.datetime.now(dt.UTC), time.monotonic())
            self._used.cell_begins()
            self._kernel.written()

            async def relieve() -> None:
                if collector.waiting > _MAX_WAITING_BYTES:
                    await self._send_parts(index, collector)

            task = asyncio.create_task(client.run_cell(source, on_output=relieve))
            forced = await self._until_done(task, index, collector)
            status, error = self._verdict(task, forced, collector.errors)
            if error is not None and (error is _NO_INPUT or forced is CellStatus.ERROR):
                collector.add(_error_message(error))
        content = self._reply
        if status is CellStatus.ERROR and error is not None:
            if may_fail and not self._kernel.died.is_set() and self._stop.outcome is None:
                status = CellStatus.SUCCESS
            elif error.name == "SystemExit" and error.value in _CLEAN_EXITS:
                status, error = CellStatus.SUCCESS, None
                collector.drop_error()
                self.finish(Outcome.COMPLETED, "a cell ended the program")
        self._take_payload(content, collector)
        self._take_rest(collector)
        collector.close()
        warnings = self._warnings(collector)
        self._conclude(index, status, error)
        resources = self._used.cell_ends()
        await self._report_changed()
        await self._send_parts(index, collector)
        started, began = self._begun()
        # Before the next cell begins, which could hand back in this one's name.
        handed_back, looked_ns = self._handed_back.new(), time.time_ns()
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
                outputs_digest=collector.digest(),
                truncated=collector.truncated,
                warnings=warnings,
                resources=resources,
                handed_back=handed_back,
                looked_ns=looked_ns,
            )
        )
        client.conclude()

    def _take_rest(self, collector: OutputCollector) -> None:
        """What comes otherwise than by messages, or beside what they are for."""
        told = self._reply.get(inside.REPLY_MEMBER)
        if told is not None:
            self.unfinished = list(told["unfinished"])
        elif not self._client.idle.is_set():
            self.unfinished = None
        for name, text in self._kernel.written().items():
            collector.add({"msg_type": "stream", "content": {"name": name, "text": text}})

    def _take_payload(self, content: dict[str, Any], collector: OutputCollector) -> None:
        for payload in content.get("payload") or []:
            if payload.get("source") == "ask_exit":
                self.finish(Outcome.COMPLETED, "a cell ended the program")
            elif payload.get("source") == "page":
                # Help and the like, for which other front ends open a pager.
                collector.add({"msg_type": "display_data", "content": payload})

    def _warnings(self, collector: OutputCollector) -> list[str]:
        """What is not as it should be with the output of the cell that is over."""
        client = self._client
        warnings = []
        loss = client.loss
        if loss is None and self._kernel.died.is_set() and not self._reply:
            loss = "the kernel ended while it ran, and what it had not sent by then is lost"
        if loss is not None:
            collector.note_loss()
            warnings.append(f"its output may not be whole: {loss}")
        if client.replies > 1:
            warnings.append("the kernel replied to it more than once, of which the last counts")
        if client.late_replies:
            warnings.append(_LATE_REPLY)
        if collector.joined:
            warnings.append(_JOINED)
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

    async def _until_done(
        self, task: asyncio.Task[None], index: int, collector: OutputCollector
    ) -> CellStatus | None:
        """Wait for the cell; end it when it must stop, and tell as what it was ended."""
        request, client, died = self._request, self._client, self._kernel.died
        asking = client.asked_for_input
        stopping, dying, _ = self._background
        saving: list[asyncio.Task[None]] = []
        forced = None
        try:
            await self._while_running(task, index, collector, saving)
            if asking.done() and not task.done() and not died.is_set():
                # Some kernels take an interrupt only when they are no more waiting for the answer.
                await self._kernel.interrupt()
                client.answer_nothing()
                await asyncio.wait(
                    {task, stopping, dying},
                    timeout=request.grace,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if not task.done() and not died.is_set() and client.reply is None:
                if not asking.done() or self._stop.event.is_set():
                    forced = _stopped_as(self._stop)
                else:
                    await asyncio.wait({task, dying}, timeout=_ASKED_SECONDS)
                await self._force_stop(task, dying)
            await self._drain(task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # Not cancelled: half a message would be the end of all understanding.
            await asyncio.gather(*saving)
        self._reply = client.reply or {}
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
        stopping, dying, _ = self._background
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limit = None if request.cell_timeout is None else begun + request.cell_timeout
        save_at = None
        if request.save_intermediate_results and request.capture_outputs:
            save_at = begun + _FIRST_SAVE_SECONDS
        while True:
            until = min((at for at in (limit, save_at) if at is not None), default=None)
            done, _ = await asyncio.wait(
                {task, stopping, dying, self._client.asked_for_input},
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
                    saving[:] = [asyncio.create_task(self._save(index, collector))]

    async def _drain(self, task: asyncio.Task[None]) -> None:
        """Take what a kernel that has ended, or a cell that has to, still sent.

        It takes no longer than a stop may: what a kernel sends may have no end.
        """
        reception = self._client.reception
        ended = self._kernel.died.is_set() or self._client.reply is not None
        until = time.monotonic() + self._request.grace
        while ended and not task.done() and time.monotonic() < until:
            before = reception.count
            await asyncio.wait({task}, timeout=_DRAIN_SECONDS)
            if reception.count == before:
                break

    async def _save(self, index: int, collector: OutputCollector) -> None:
        """Report what the running cell has put out, where there is something new."""
        await self._report_changed()
        await self._send_parts(index, collector)
        unchanged = collector.changes()
        if unchanged is not None:
            await self._send(
                OutputsSoFar(
                    index=index,
                    unchanged=unchanged,
                    outputs=collector.outputs(unchanged),
                    output_bytes=collector.output_bytes,
                    output_count=collector.output_count,
                    truncated=collector.truncated,
                )
            )

    async def _send_parts(self, index: int, collector: OutputCollector) -> None:
        while (part := collector.take_part()) is not None:
            number, data = part
            await self._send(OutputPart(index=index, number=number, data=data))

    async def _force_stop(self, task: asyncio.Task[Any], dying: asyncio.Task[Any]) -> None:
        grace = self._request.grace
        if self._stop.outcome in LIMIT_OUTCOMES:
            # What it takes more meanwhile is taken from others.
            self._kernel.signal(signal.SIGKILL)
            await asyncio.wait({dying}, timeout=_KILL_SECONDS)
            return
        # A kernel ignores interrupts between cells: one that came before the cell began is lost.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BEGIN_SECONDS):
                await self._client.executing.wait()
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

    def _verdict(
        self, task: asyncio.Task[None], forced: CellStatus | None, shown: list[ErrorText]
    ) -> tuple[CellStatus, ErrorText | None]:
        reply = self._reply
        told = _as_shown(error_text(reply), shown) if reply.get("status") == "error" else None
        if forced is CellStatus.ERROR and self._stop.outcome is not None:
            return forced, ErrorText(ERROR_NAMES[self._stop.outcome], self._stop.detail, [])
        if forced is not None:
            return forced, told
        if self._client.asked_for_input.done() and not self._kernel.died.is_set():
            return CellStatus.ERROR, _NO_INPUT
        if reply:
            if told is None and reply.get("status") != "ok":
                told = ErrorText("Aborted", "the kernel aborted the request", [])
            return (CellStatus.SUCCESS if told is None else CellStatus.ERROR), told
        if self._kernel.died.is_set():
            return CellStatus.ERROR, ErrorText("KernelDied", self._death(), [])
        failure = None if task.cancelled() else task.exception()
        if failure is None:
            return CellStatus.ERROR, ErrorText("NoReply", "the kernel gave no reply", [])
        return CellStatus.ERROR, ErrorText(type(failure).__name__, clean(str(failure)), [])

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

    async def _report_changed(self) -> None:
        changed, self._client.changed = sorted(self._client.changed), set()
        for index in changed:
            collector = self._client.collectors[index]
            await self._send(
                OutputsUpdated(
                    index=index,
                    outputs=collector.outputs(),
                    output_bytes=collector.output_bytes,
                    output_count=collector.output_count,
                    outputs_digest=collector.digest(),
                    truncated=collector.truncated,
                )
            )

    async def _report_started(self, index: int) -> None:
        self._started = (dt.datetime.now(dt.UTC), time.monotonic())
        await self._send(CellStarted(index=index, started=self._started[0]))


def _as_shown(error: ErrorText, shown: list[ErrorText]) -> ErrorText:
    """The error as the cell shows it, where its reply tells of none that it shows.

    ipykernel's reply has no name for an error of a display: of a `__repr__` that raises.
    """
    told = {(each.name, each.value) for each in shown}
    return error if not shown or (error.name, error.value) in told else shown[-1]


def _error_message(error: ErrorText) -> dict[str, Any]:
    content = {"ename": error.name, "evalue": error.value, "traceback": error.traceback}
    return {"msg_type": "error", "content": content}


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _stopped_as(stop: Stop) -> CellStatus:
    """The status of a cell that had to stop: without a reason its own time was up."""
    if stop.outcome in LIMIT_OUTCOMES:
        return CellStatus.ERROR
    return CellStatus.CANCELLED if stop.outcome is Outcome.CANCELLED else CellStatus.TIMED_OUT
