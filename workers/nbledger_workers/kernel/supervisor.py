"""Runs one notebook on one kernel and reports each cell; lives in the supervising child."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import zmq
import zmq.asyncio
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from nbledger_workers.kernel import processes
from nbledger_workers.kernel.environment import kernel_environment
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
    Heartbeat,
    KernelStarted,
    Launch,
    Outcome,
    OutputsUpdated,
    RunFinished,
    RunNotebook,
    UpMessage,
)
from nbledger_workers.kernel.specs import InterpreterKernelSpecManager

if TYPE_CHECKING:
    from nbledger_workers.kernel.client import CollectingClient

Send = Callable[[UpMessage], Awaitable[None]]

SAMPLE_SECONDS: Final = 0.25
HEARTBEAT_SECONDS: Final = 5.0
_DEATH_POLL_SECONDS: Final = 0.1
_BEGIN_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 0.3
_SHUTDOWN_SECONDS: Final = 3.0
_KILL_SECONDS: Final = 5.0
# The wait for a kernel's last output after its reply; a dead kernel ends it sooner.
_IOPUB_SECONDS: Final = 300
_STDERR_TAIL_BYTES: Final = 8_000
_CLEAN_EXITS: Final = frozenset({"", "0", "None"})


class Stop:
    """Why a run must stop; the first reason wins."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.detail = ""
        self.event = asyncio.Event()

    def set(self, outcome: Outcome, detail: str) -> None:
        """Ask for the stop."""
        if self.outcome is None:
            self.outcome, self.detail = outcome, detail
            self.event.set()


class StartError(Exception):
    """The kernel did not come up."""


class Supervisor:
    """One run: `run` starts the kernel, runs the cells, ends the kernel and tells the outcome."""

    def __init__(self, launch: Launch, send: Send, stop: Stop) -> None:
        self._launch = launch
        self._request: RunNotebook = launch.run
        self._send = send
        self._stop = stop
        self._notebook: Any = None
        self._died = asyncio.Event()
        self._confirmed = asyncio.Event()
        self._manager: AsyncKernelManager | None = None
        self._client: CollectingClient | None = None
        self._process: psutil.Process | None = None
        self._peak = 0
        self._cpu = 0.0
        self._sampled = 0.0
        self._stderr = b""
        self._stderr_pipe: int | None = None
        self._reply: dict[str, Any] = {}
        self._started: tuple[dt.datetime, float] | None = None
        self._failed: list[int] = []
        self._end: tuple[Outcome, str] | None = None
        self._is_ipython = False

    @property
    def group(self) -> int | None:
        """Process group of the kernel, which leads a session of its own; None before its start."""
        return None if self._process is None else self._process.pid

    def confirm(self) -> None:
        """Let held cells go to the kernel."""
        self._confirmed.set()

    async def run(self) -> RunFinished:
        """Run to the end. Whatever happens, the kernel is gone afterwards."""
        request = self._request
        loop = asyncio.get_running_loop()
        deadline = None
        if request.timeout is not None:
            deadline = loop.call_later(
                request.timeout,
                self._stop.set,
                Outcome.TIMED_OUT,
                f"the run took longer than {request.timeout:g} seconds",
            )
        background: list[asyncio.Task[None]] = []
        try:
            try:
                await self._start(background)
            except StartError as error:
                self._finish(Outcome.FAILED_TO_START, str(error))
            for index in request.cells_to_run:
                await self._cell(index)
        finally:
            if deadline is not None:
                deadline.cancel()
            await self._end_kernel()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        outcome, detail = self._end or (Outcome.COMPLETED, "")
        disk = await asyncio.to_thread(processes.folder_bytes, request.working_dir)
        return RunFinished(
            outcome=outcome,
            detail=detail,
            failed_cells=self._failed,
            peak_memory_bytes=self._peak,
            cpu_seconds=self._cpu,
            disk_bytes=disk,
        )

    def _finish(self, outcome: Outcome, detail: str = "") -> None:
        """Note the outcome; the first one stays."""
        if self._end is None:
            self._end = (outcome, detail)

    # Start

    async def _start(self, background: list[asyncio.Task[None]]) -> None:
        begun = time.monotonic()
        starting = asyncio.create_task(self._start_kernel(background))
        stopping = asyncio.create_task(self._stop.event.wait())
        dying = asyncio.create_task(self._died.wait())
        try:
            await asyncio.wait(
                {starting, stopping, dying},
                timeout=self._request.startup_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if starting.done() and starting.exception() is None:
                await self._send(self._kernel_started(starting.result(), begun))
            elif self._stop.outcome is not None:
                self._finish(self._stop.outcome, self._stop.detail)
            elif starting.done():
                raise StartError(clean(str(starting.exception())))
            elif self._died.is_set():
                raise StartError(f"the kernel ended before it was ready{self._last_words()}")
            else:
                raise StartError(
                    f"the kernel was not ready within {self._request.startup_timeout:g} seconds"
                    f"{self._last_words()}"
                )
        finally:
            for task in (starting, stopping, dying):
                task.cancel()
            await asyncio.gather(starting, stopping, dying, return_exceptions=True)

    async def _start_kernel(self, background: list[asyncio.Task[None]]) -> dict[str, Any]:
        request = self._request
        runtime = Path(self._launch.runtime_dir)
        working_dir = Path(request.working_dir)
        context = zmq.asyncio.Context()
        # A bounded queue would drop messages in silence when the kernel is the faster one.
        context.setsockopt(zmq.RCVHWM, 0)
        manager = AsyncKernelManager(
            kernel_name=request.kernel_name,
            kernel_spec_manager=InterpreterKernelSpecManager(),
            transport="ipc",
            ip=str(runtime / "s"),
            connection_file=str(runtime / "k.json"),
            context=context,
        )
        self._manager = manager
        try:
            spec = manager.kernel_spec
        except NoSuchKernel:
            raise StartError(f"no kernelspec named {request.kernel_name!r} is installed") from None
        environment = kernel_environment(os.environ, request.env, working_dir)
        environment[processes.TOKEN_VARIABLE] = self._launch.token
        environment["JUPYTER_RUNTIME_DIR"] = self._launch.runtime_dir
        await asyncio.to_thread(_copy_font_cache, Path(environment["HOME"]))
        arguments = []
        if spec is not None and "ipykernel_launcher" in spec.argv:
            arguments.append("--HistoryManager.hist_file=:memory:")
        read, write = os.pipe()
        os.set_blocking(read, False)
        self._stderr_pipe = read
        asyncio.get_running_loop().add_reader(read, self._read_stderr, read)
        try:
            await manager.start_kernel(
                extra_arguments=arguments,
                cwd=request.working_dir,
                env=environment,
                stdout=write,
                stderr=write,
                preexec_fn=processes.death_signal(signal.SIGKILL, os.getpid()),
            )
        except OSError as error:
            raise StartError(f"the kernel's program cannot be run: {error}") from error
        finally:
            os.close(write)
        pid: int = manager.provisioner.pid  # type: ignore[union-attr]
        self._process = psutil.Process(pid)
        background.append(asyncio.create_task(self._watch_death()))
        background.append(asyncio.create_task(self._sample_usage()))
        # Imported while the kernel starts: nbclient and nbformat take a third of a second.
        self._notebook, client_class = await asyncio.to_thread(_load, request.notebook)
        client = client_class(
            self._notebook,
            manager,
            config=Config(),
            allow_errors=True,
            record_timing=False,
            iopub_timeout=_IOPUB_SECONDS,
            raise_on_iopub_timeout=True,
            on_cell_executed=self._on_cell_executed,
        )
        self._client = client
        client.kc = manager.client()
        client.kc.start_channels(stdin=False, hb=False)
        return await _ready(client.kc)

    def _kernel_started(self, info: dict[str, Any], begun: float) -> KernelStarted:
        language = info.get("language_info") or {}
        self._is_ipython = info.get("implementation") == "ipython"
        return KernelStarted(
            language=str(language.get("name", "")),
            language_version=str(language.get("version", "")),
            implementation=str(info.get("implementation", "")),
            pid=self.group or 0,
            startup_seconds=time.monotonic() - begun,
        )

    # Cells

    async def _cell(self, index: int) -> None:
        """Run or skip one cell and report it."""
        if self._end is None and self._stop.outcome is not None:
            self._finish(self._stop.outcome, self._stop.detail)
        if self._end is None and self._died.is_set():
            self._finish(Outcome.KERNEL_DIED, self._death())
        if self._end is not None:
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
        assert client is not None  # noqa: S101 - a cell runs only after a start
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
            if may_fail and not self._died.is_set():
                status = CellStatus.SUCCESS
            elif error.name == "SystemExit" and error.value in _CLEAN_EXITS:
                status, error = CellStatus.SUCCESS, None
                collector.drop_error()
                self._finish(Outcome.COMPLETED, "a cell ended the program")
        if any(payload.get("source") == "ask_exit" for payload in content.get("payload") or []):
            self._finish(Outcome.COMPLETED, "a cell ended the program")
        self._conclude(index, status, error)
        self._sample_if_due()
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
        events = (self._confirmed, self._stop.event, self._died)
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
        dying = asyncio.create_task(self._died.wait())
        forced = None
        try:
            await asyncio.wait(
                {task, stopping, dying},
                timeout=self._request.cell_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not task.done() and not self._died.is_set():
                forced = _stopped_as(self._stop)
                await self._force_stop(task, dying, executing)
            if self._died.is_set():
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
        await self._interrupt()
        await asyncio.wait({task, dying}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if task.done() or dying.done():
            return
        self._signal(signal.SIGTERM)
        await asyncio.wait({task, dying}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            return
        self._signal(signal.SIGKILL)
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
        if self._died.is_set():
            return CellStatus.ERROR, ErrorText("KernelDied", self._death(), [])
        failure = None if task.cancelled() else task.exception()
        if failure is None:
            return CellStatus.ERROR, ErrorText("NoReply", "the kernel gave no reply", [])
        return CellStatus.ERROR, ErrorText(type(failure).__name__, clean(str(failure)), [])

    def _conclude(self, index: int, status: CellStatus, error: ErrorText | None) -> None:
        """Note what a cell's end means for the run."""
        if status in (CellStatus.ERROR, CellStatus.TIMED_OUT):
            self._failed.append(index)
        stopped = self._stop.outcome
        if status is CellStatus.CANCELLED or (status is CellStatus.TIMED_OUT and stopped):
            self._finish(stopped or Outcome.CANCELLED, self._stop.detail)
        elif status is CellStatus.TIMED_OUT:
            if self._died.is_set() or not self._request.continue_on_error:
                limit = self._request.cell_timeout
                self._finish(Outcome.TIMED_OUT, f"a cell took longer than {limit:g} seconds")
        elif self._died.is_set() and not self._reply:
            self._finish(Outcome.KERNEL_DIED, self._death())
        elif status is CellStatus.ERROR and not self._request.continue_on_error:
            self._finish(Outcome.CELL_ERROR, f"{error.name}: {error.value}" if error else "")

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

    # The kernel's process

    async def _interrupt(self) -> None:
        manager = self._manager
        spec = None if manager is None else manager.kernel_spec
        if manager is not None and spec is not None and spec.interrupt_mode == "message":
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await manager.interrupt_kernel()
            return
        self._signal(signal.SIGINT)

    def _signal(self, number: int) -> None:
        if self.group is not None:
            processes.signal_group(self.group, number)

    async def _watch_death(self) -> None:
        manager = self._manager
        assert manager is not None  # noqa: S101 - started after the kernel
        provisioner: Any = manager.provisioner
        # There is no event for it on every system; polling is a system call.
        while (  # noqa: ASYNC110
            provisioner.process is not None and provisioner.process.poll() is None
        ):
            await asyncio.sleep(_DEATH_POLL_SECONDS)
        self._died.set()

    def _death(self) -> str:
        provisioner: Any = None if self._manager is None else self._manager.provisioner
        process = None if provisioner is None else provisioner.process
        code = None if process is None else process.poll()
        if code is None:
            how = "the kernel's process ended"
        elif code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            how = f"the kernel's process was ended by {name}"
            if -code == signal.SIGKILL:
                how += ", as the system does when memory runs out"
        else:
            how = f"the kernel's process ended with status {code}"
        return how + self._last_words()

    def _read_stderr(self, pipe: int) -> None:
        try:
            chunk = os.read(pipe, 65536)
        except BlockingIOError:
            return
        if chunk:
            self._stderr = (self._stderr + chunk)[-_STDERR_TAIL_BYTES:]
        else:
            asyncio.get_running_loop().remove_reader(pipe)

    def _last_words(self) -> str:
        if self._stderr_pipe is not None:
            self._read_stderr(self._stderr_pipe)
        text = clean(self._stderr.decode("utf-8", "replace")).strip()
        return f": {text[-2000:]}" if text else ""

    async def _sample_usage(self) -> None:
        last = time.monotonic()
        while True:
            used = self._sample()
            if time.monotonic() - last >= HEARTBEAT_SECONDS:
                last = time.monotonic()
                beat = Heartbeat(memory_bytes=used.memory_bytes, cpu_seconds=used.cpu_seconds)
                await self._send(beat)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _sample(self) -> processes.Usage:
        if self._process is None or self._died.is_set():
            return processes.Usage(0, self._cpu)
        self._sampled = time.monotonic()
        used = processes.usage(self._process)
        self._peak = max(self._peak, used.memory_bytes, processes.high_water(self._process.pid))
        self._cpu = max(self._cpu, used.cpu_seconds)
        return used

    def _sample_if_due(self) -> None:
        # Looking for children costs milliseconds: not after every one of many short cells.
        if time.monotonic() - self._sampled >= SAMPLE_SECONDS / 2:
            self._sample()

    async def _end_kernel(self) -> None:
        """End the kernel: politely after a normal end, for its exit hooks; then by force."""
        self._sample()
        manager, client = self._manager, self._client
        outcome = self._end[0] if self._end else Outcome.COMPLETED
        if manager is not None and self._process is not None and not self._died.is_set():
            if outcome in (Outcome.COMPLETED, Outcome.CELL_ERROR):
                with contextlib.suppress(Exception):
                    await self._ask_to_shut_down(manager)
                    await self._wait_died(_SHUTDOWN_SECONDS)
            self._signal(signal.SIGKILL)
            await self._wait_died(_KILL_SECONDS)
        # Children that outlived the kernel, in its group or hidden elsewhere.
        self._signal(signal.SIGKILL)
        await asyncio.to_thread(processes.kill_marked, self._launch.token)
        if client is not None and client.kc is not None:
            client.kc.stop_channels()
        if manager is not None:
            with contextlib.suppress(Exception):
                await manager.cleanup_resources()
            manager.context.destroy(linger=0)
        if self._stderr_pipe is not None:
            asyncio.get_running_loop().remove_reader(self._stderr_pipe)
            os.close(self._stderr_pipe)
            self._stderr_pipe = None
        self._cpu = max(self._cpu, _cpu_of_ended_children())

    async def _ask_to_shut_down(self, manager: AsyncKernelManager) -> None:
        client = self._client
        if client is not None and client.kc is not None and self._is_ipython:
            # On the control channel ipykernel's closing main thread and its control thread wait
            # for each other about once in ten times, for ten seconds; on the shell channel one
            # thread does it all.
            client.kc.shell_channel.send(
                client.kc.session.msg("shutdown_request", {"restart": False})
            )
        else:
            await manager.request_shutdown()

    async def _wait_died(self, seconds: float) -> None:
        """Wait for the process's end at a finer step than the watcher's."""
        provisioner: Any = self._manager.provisioner if self._manager else None
        process = provisioner.process if provisioner else None
        until = time.monotonic() + seconds
        while (  # noqa: ASYNC110
            process is not None and process.poll() is None and time.monotonic() < until
        ):
            await asyncio.sleep(0.01)


def _stopped_as(stop: Stop) -> CellStatus:
    """The status of a cell that had to stop: without a reason its own time was up."""
    return CellStatus.CANCELLED if stop.outcome is Outcome.CANCELLED else CellStatus.TIMED_OUT


def _load(notebook: bytes) -> tuple[Any, type[CollectingClient]]:
    import nbformat  # noqa: PLC0415 - see the caller

    from nbledger_workers.kernel.client import CollectingClient  # noqa: PLC0415

    parsed = nbformat.v4.reads(notebook.decode("utf-8"))  # type: ignore[no-untyped-call]
    return parsed, CollectingClient


async def _ready(client: Any) -> dict[str, Any]:
    """Wait until shell and IOPub both answer; return the content of `kernel_info_reply`.

    The request is repeated, since an IOPub subscription that came too late misses the first.
    """
    info: dict[str, Any] | None = None
    asked: set[str] = set()
    heard = False
    while info is None or not heard:
        asked.add(client.kernel_info())
        until = time.monotonic() + (1.0 if info is None else 0.1)
        while time.monotonic() < until and (info is None or not heard):
            if info is None and await client.shell_channel.msg_ready():
                reply = await client.shell_channel.get_msg(timeout=0)
                if reply["msg_type"] == "kernel_info_reply":
                    info = reply["content"]
                    client._handle_kernel_info_reply(reply)  # noqa: SLF001 - sets the protocol version
                    until = time.monotonic() + 0.1
            elif not heard and await client.iopub_channel.msg_ready():
                message = await client.iopub_channel.get_msg(timeout=0)
                heard = message["parent_header"].get("msg_id") in asked
            else:
                await asyncio.sleep(0.005)
    return info


def _cpu_of_ended_children() -> float:
    import resource  # noqa: PLC0415 - POSIX only

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _copy_font_cache(home: Path) -> None:
    """Give the private home matplotlib's list of fonts, which takes seconds to build anew."""
    source = Path.home() / ".cache" / "matplotlib"
    target = home / ".cache" / "matplotlib"
    with contextlib.suppress(OSError):
        fonts = list(source.glob("fontlist-*.json"))
        if fonts:
            target.mkdir(parents=True, exist_ok=True)
            for font in fonts:
                shutil.copyfile(font, target / font.name)
