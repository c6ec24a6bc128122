"""The worker's side: starts a supervising child for one run and passes on what it reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from nbledger_workers.kernel import processes
from nbledger_workers.kernel.environment import child_environment
from nbledger_workers.kernel.protocol import (
    PREFIX_BYTES,
    AnyUp,
    Cancel,
    CellFinished,
    CellStarted,
    Confirm,
    DownMessage,
    Heartbeat,
    KernelStarted,
    Launch,
    Outcome,
    OutputPart,
    OutputsSoFar,
    OutputsUpdated,
    ProtocolError,
    RunFinished,
    RunNotebook,
    body_length,
    decode_up,
    frame,
)

#: What `on_message` is given; `RunFinished` is returned instead.
Report = KernelStarted | CellStarted | CellFinished | OutputPart | OutputsSoFar | OutputsUpdated
OnMessage = Callable[[Report], Awaitable[None]]

#: A child that says nothing for so long, heartbeats included, is lost.
SILENCE_SECONDS: Final = 60.0
# What a child may need beyond the run's own timeout: ending the cell and the kernel.
_OVERTIME_SECONDS: Final = 30.0
_SEND_SECONDS: Final = 30.0
_EXIT_SECONDS: Final = 10.0
_STDERR_TAIL_BYTES: Final = 8_000
# The longest path of a Unix socket is 107 bytes on Linux and 103 on macOS.
_RUNTIME_PATH_BYTES: Final = 80

log = structlog.get_logger(__name__)


class SupervisorSilent(Exception):
    """The child is there, but does not do its part in time."""


class KernelRun:
    """One run of a notebook in a child process of its own; use once.

    `on_message` is awaited for each report, in order; while it runs nothing more is read, so that
    a slow store slows the run and fills no memory. Its errors end the run and reach the caller.
    `on_usage` is told about once a second what the run uses.
    """

    def __init__(
        self,
        request: RunNotebook,
        *,
        on_message: OnMessage,
        on_usage: Callable[[Heartbeat], None] | None = None,
    ) -> None:
        self._request = request
        self._on_message = on_message
        self._on_usage = on_usage
        self._token = uuid.uuid4().hex
        self._process: asyncio.subprocess.Process | None = None
        self._cancel: Cancel | None = None
        self._launched = False
        self._sending: set[asyncio.Task[None]] = set()
        self._stderr = b""

    @property
    def token(self) -> str:
        """Value of the environment variable NBLEDGER_RUN in every process of this run."""
        return self._token

    @property
    def child_pid(self) -> int | None:
        """Process id of the supervising child once it was started."""
        return None if self._process is None else self._process.pid

    def cancel(self, reason: str) -> None:
        """Ask for the end of the run; `run` then returns `cancelled`. Safe to call at any time."""
        if self._cancel is None:
            self._cancel = Cancel(reason)
            self._send_cancel()

    def confirm(self) -> None:
        """Let the cells go that the request holds; call it after the report that one started."""
        stdin = None if self._process is None else self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(frame(Confirm()))

    async def run(self) -> RunFinished:
        """Run to the end and return how it ended; never raises for what the notebook does.

        Cancelling the calling task ends child and kernel before it returns.
        """
        runtime_dir = await asyncio.to_thread(_make_runtime_dir)
        clean = False
        try:
            finished = await self._run_child(runtime_dir)
            clean = finished is not None
            return finished if finished is not None else self._lost("the supervisor ended")
        except ProtocolError as error:
            return self._lost(f"the supervisor sent an unreadable report: {error}")
        except SupervisorSilent as error:
            return self._lost(str(error))
        finally:
            await _finish_even_if_cancelled(self._clean_up(runtime_dir, clean=clean))

    async def _run_child(self, runtime_dir: Path) -> RunFinished | None:
        """Talk to the child until it reports the end; None when it ended without."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nbledger_workers.kernel",
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=python_environment(),
            start_new_session=True,
            limit=1 << 20,
        )
        errors = asyncio.create_task(self._drain_errors(self._process))
        self._sending.add(errors)
        launch = Launch(run=self._request, runtime_dir=str(runtime_dir), token=self._token)
        try:
            await self._send(launch)
        except (BrokenPipeError, ConnectionResetError):
            return None
        except TimeoutError:
            raise SupervisorSilent("the supervisor did not take the notebook") from None
        self._launched = True
        self._send_cancel()
        loop = asyncio.get_running_loop()
        limit = self._request.timeout
        overtime = 2 * self._request.grace + _OVERTIME_SECONDS
        end = None if limit is None else loop.time() + limit + overtime
        while True:
            silence = loop.time() + SILENCE_SECONDS
            try:
                async with asyncio.timeout_at(silence if end is None else min(end, silence)):
                    message = await self._receive()
            except TimeoutError:
                raise SupervisorSilent("the supervisor did not report the end in time") from None
            if message is None or isinstance(message, RunFinished):
                return message
            if not isinstance(message, Heartbeat):
                await self._on_message(message)
            elif self._on_usage is not None:
                self._on_usage(message)

    async def _receive(self) -> AnyUp | None:
        assert self._process is not None  # noqa: S101
        reader = self._process.stdout
        assert reader is not None  # noqa: S101
        try:
            prefix = await reader.readexactly(PREFIX_BYTES)
            return decode_up(await reader.readexactly(body_length(prefix)))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None

    async def _send(self, message: DownMessage) -> None:
        assert self._process is not None  # noqa: S101
        writer = self._process.stdin
        assert writer is not None  # noqa: S101
        writer.write(frame(message))
        async with asyncio.timeout(_SEND_SECONDS):
            await writer.drain()

    def _send_cancel(self) -> None:
        """Send a cancel that is asked for, once the child has its launch."""
        stdin = None if self._process is None else self._process.stdin
        if self._cancel is None or not self._launched or stdin is None or stdin.is_closing():
            return
        # A small frame: there is no need to wait for it.
        stdin.write(frame(self._cancel))

    async def _drain_errors(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101
        while chunk := await process.stderr.read(65536):
            self._stderr = (self._stderr + chunk)[-_STDERR_TAIL_BYTES:]

    def _lost(self, what: str) -> RunFinished:
        process = self._process
        status = "" if process is None or process.returncode is None else f" ({process.returncode})"
        log.warning("kernel supervisor lost", pid=self.child_pid, what=what + status)
        words = self._stderr.decode("utf-8", "replace").strip()[-2000:]
        detail = f"supervisor lost: {what}{status}" + (f": {words}" if words else "")
        return RunFinished(outcome=Outcome.SUPERVISOR_LOST, detail=detail)

    async def _clean_up(self, runtime_dir: Path, *, clean: bool) -> None:
        """Leave no process and no file: the child ends itself when its stdin ends, or is killed."""
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_EXIT_SECONDS):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_EXIT_SECONDS):
                        await process.wait()
                clean = False
        if not clean:
            killed = await asyncio.to_thread(processes.kill_marked, self._token)
            if killed:
                log.warning("killed leftovers of a run", count=killed)
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, runtime_dir, ignore_errors=True)


async def run_notebook(request: RunNotebook, *, on_message: OnMessage) -> RunFinished:
    """Run a notebook to its end in a child of its own: `KernelRun(…).run()`."""
    return await KernelRun(request, on_message=on_message).run()


def _make_runtime_dir() -> Path:
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > _RUNTIME_PATH_BYTES:
        folder = "/tmp"  # noqa: S108 - a socket's path must be short; mkdtemp makes it private
    return Path(tempfile.mkdtemp(prefix="nbk-", dir=folder))


def python_environment() -> dict[str, str]:
    """The environment of a Python child that imports this package and shall know no secret."""
    environment = child_environment(os.environ)
    # The child imports this very package, wherever the worker found it.
    root = str(Path(__file__).resolve().parents[2])
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if root not in path:
        environment["PYTHONPATH"] = os.pathsep.join([*path, root])
    return environment


async def _finish_even_if_cancelled(work: Awaitable[None]) -> None:
    """Await `work` to its end; a cancellation meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
