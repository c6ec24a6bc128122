"""A supervising child with its kernel, as the worker holds it: started, fed, listened to, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from nbledger_infrastructure.packages import Environment
from nbledger_workers.kernel.processes import family, fork_client, own_python
from nbledger_workers.kernel.processes.environment import child_environment
from nbledger_workers.kernel.processes.fork_client import Forked, ForkServer
from nbledger_workers.kernel.protocol import (
    PREFIX_BYTES,
    AnyUp,
    Dismiss,
    DownMessage,
    KernelStarted,
    Launch,
    body_length,
    decode_up,
    frame,
)
from nbledger_workers.kernel.standalone.isolation import Isolation, Preparation

_SEND_SECONDS: Final = 30.0
# Exit hooks have three seconds; then the kernel and all that it started are killed.
_EXIT_SECONDS: Final = 15.0
_STDERR_TAIL_BYTES: Final = 8_000
# The longest path of a Unix socket is 107 bytes on Linux and 103 on macOS.
_RUNTIME_PATH_BYTES: Final = 80
_TARGET: Final = "nbledger_workers.kernel.supervising.__main__:forked"

log = structlog.get_logger(__name__)


class ForkServers:
    """The two fork servers of a worker: of supervising children, and of kernels.

    That of kernels makes the `preparation`, where there is one.
    Neither is given anything but the allow-listed environment. One that has ended is replaced.
    """

    def __init__(self, *, preparation: Preparation | None = None) -> None:
        self._preparation = preparation
        self._supervisors = self._start_supervisors()
        self._kernels = self._start_kernels()

    @property
    def pids(self) -> tuple[int, int]:
        """Of the fork server of supervising children and of the fork server of kernels."""
        return self._supervisors.pid, self._kernels.pid

    def supervisors(self) -> ForkServer:
        """The fork server of supervising children."""
        if not self._supervisors.alive:
            log.warning("fork server ended", of="supervisors")
            self._supervisors.close()
            self._supervisors = self._start_supervisors()
        return self._supervisors

    def kernels(self) -> ForkServer:
        """The fork server of kernels."""
        if not self._kernels.alive:
            log.warning("fork server ended", of="kernels")
            self._kernels.close()
            self._kernels = self._start_kernels()
        return self._kernels

    def close(self) -> None:
        """End both, with all that they forked."""
        self._supervisors.close()
        self._kernels.close()

    def _start_supervisors(self) -> ForkServer:
        return ForkServer(
            fork_client.SUPERVISOR_MODULES, environment=python_environment(), tied=_may_tie()
        )

    def _start_kernels(self) -> ForkServer:
        return ForkServer(
            fork_client.KERNEL_MODULES,
            environment=python_environment(),
            preparation=self._preparation,
            tied=_may_tie(),
        )


def _may_tie() -> bool:
    """Only to the main thread: the system tells of the end of a thread as of its process's."""
    import threading  # noqa: PLC0415

    return threading.current_thread() is threading.main_thread()


class Pair:
    """A supervising child and the kernel that it starts; runs one notebook, then ends.

    Everything sent before the kernel is ready waits in the child. `close` it whatever happened.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._forked: Forked | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._next: asyncio.Task[AnyUp | None] | None = None
        self._stderr = b""
        self._stderr_pipe: int | None = None
        #: What the kernel told when it was ready; None until `ready` has returned.
        self.started: KernelStarted | None = None

    @property
    def token(self) -> str:
        """Value of the environment variable NBLEDGER_RUN in the kernel and what it starts."""
        return self._launch.token

    @property
    def folder(self) -> Path:
        """The kernel's working folder."""
        return Path(self._launch.working_dir)

    @property
    def child_pid(self) -> int | None:
        """Process id of the supervising child, as soon as it is known."""
        if self._forked is not None:
            self._forked.poll()
            return self._forked.pid
        return None if self._process is None else self._process.pid

    @property
    def status(self) -> int | None:
        """How the supervising child ended; None while it lives."""
        if self._forked is not None:
            return self._forked.poll()
        return None if self._process is None else self._process.returncode

    def last_words(self) -> str:
        """The end of what the supervising child wrote to stderr."""
        if self._stderr_pipe is not None:
            self._read_stderr()
        return self._stderr.decode("utf-8", "replace").strip()[-2000:]

    @classmethod
    async def start(cls, launch: Launch, served: ForkServers | None) -> Pair:
        """Start a pair; raises OSError or ForkServerLostError. With `served` both are forked."""
        pair = cls(launch)
        try:
            await pair._start(served)
        except BaseException:
            await finish_even_if_cancelled(pair.close(clean=False))
            raise
        return pair

    async def _start(self, served: ForkServers | None) -> None:
        ours, theirs = socket.socketpair()
        errors, theirs_errors = os.pipe()
        os.set_blocking(errors, False)
        self._stderr_pipe = errors
        asyncio.get_running_loop().add_reader(errors, self._read_stderr)
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(
                sock=ours, limit=1 << 20
            )
            if served is not None:
                self._fork(served, theirs, theirs_errors)
            else:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "nbledger_workers.kernel.supervising",
                    str(os.getpid()),
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=theirs_errors,
                    env=python_environment(),
                    start_new_session=True,
                )
        finally:
            theirs.close()
            os.close(theirs_errors)
        self._writer.write(frame(self._launch))
        self._next = asyncio.create_task(self._read())

    def _fork(self, served: ForkServers, theirs: socket.socket, errors: int) -> None:
        supervisors = served.supervisors()
        with served.kernels().open() as kernel:
            self._forked = Forked(supervisors.open())
            self._forked.start(
                {
                    "target": _TARGET,
                    "arguments": ["nbledger-kernel"],
                    "env": supervisors.environment,
                    "cwd": "/",
                },
                [theirs.fileno(), theirs.fileno(), errors, kernel.fileno()],
            )

    async def ready(self) -> bool:
        """Wait until the kernel is ready; False when there comes something else instead.

        That is for `receive`, as is everything once somebody calls that. Cancelling it loses
        nothing.
        """
        pending = self._next
        assert pending is not None  # noqa: S101 - until the first receive
        await asyncio.wait({pending})
        if self._next is not pending:
            return False
        message = None if pending.exception() else pending.result()
        if not isinstance(message, KernelStarted):
            return False
        self.started = message
        self._next = asyncio.create_task(self._read())
        return True

    async def spoke(self) -> None:
        """Wait until there is something to receive, which a waiting pair says when it ends.

        Returns at once when somebody receives already.
        """
        if self._next is not None:
            await asyncio.wait({self._next})

    async def receive(self) -> AnyUp | None:
        """The next report; None when there will be none. Raises ProtocolError."""
        pending, self._next = self._next, None
        return await (self._read() if pending is None else pending)

    async def _read(self) -> AnyUp | None:
        assert self._reader is not None  # noqa: S101
        try:
            prefix = await self._reader.readexactly(PREFIX_BYTES)
            return decode_up(await self._reader.readexactly(body_length(prefix)))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None

    def send_soon(self, message: DownMessage) -> None:
        """Send a small message without waiting for it to be taken."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame(message))

    async def send(self, message: DownMessage) -> None:
        """Send a message; raises OSError when nobody takes it, TimeoutError."""
        assert self._writer is not None  # noqa: S101
        self._writer.write(frame(message))
        async with asyncio.timeout(_SEND_SECONDS):
            await self._writer.drain()

    def _read_stderr(self) -> None:
        pipe = self._stderr_pipe
        if pipe is None:
            return
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(pipe, 65536)
            self._stderr = (self._stderr + chunk)[-_STDERR_TAIL_BYTES:]
            if not chunk:
                asyncio.get_running_loop().remove_reader(pipe)

    async def close(self, *, clean: bool) -> None:
        """Leave no process and no socket.

        `clean` says that the child has reported the end: it then ends the kernel politely. Else
        all is killed at once.
        """
        if clean:
            self.send_soon(Dismiss())
            clean = await self._ended(_EXIT_SECONDS)
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
            self._next = None
        if self._writer is not None:
            self._writer.close()
        if self._forked is not None:
            self._forked.kill()
            await self._ended(_EXIT_SECONDS)
            self._forked.close()
        if self._process is not None and not await self._ended(_EXIT_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._ended(_EXIT_SECONDS)
        if not clean:
            killed = await asyncio.to_thread(family.kill_marked, self.token)
            if killed:
                log.warning("killed leftovers of a run", count=killed)
        if self._stderr_pipe is not None:
            asyncio.get_running_loop().remove_reader(self._stderr_pipe)
            os.close(self._stderr_pipe)
            self._stderr_pipe = None
        await asyncio.to_thread(shutil.rmtree, self._launch.runtime_dir, ignore_errors=True)

    async def _ended(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                if self._forked is not None:
                    await self._forked.wait_gone()
                elif self._process is not None:
                    await self._process.wait()
        except TimeoutError:
            return False
        return True


def new_launch(
    folder: Path,
    kernel_name: str,
    *,
    process_limits: Mapping[str, int] | None = None,
    confine: Callable[[Path, Path], Isolation] | None = None,
    environment: Environment | None = None,
) -> Launch:
    """What a child needs for a kernel in `folder`; makes the folder of its sockets.

    A Python kernel is started in `environment`, where there is one. Raises OSError.
    """
    runtime_dir = _make_runtime_dir()
    isolation: Isolation | None = None
    if confine is not None:
        (folder / ".tmp").mkdir(mode=0o700, exist_ok=True)
        try:
            isolation = confine(folder, runtime_dir)
        except OSError:
            runtime_dir.rmdir()
            raise
    if environment is not None and isolation is not None:
        isolation = replace(isolation, protected=(str(environment.folder),))
    below = None if environment is None else environment.folder
    own = own_python.make(folder, below)
    return Launch(
        runtime_dir=str(runtime_dir),
        token=uuid.uuid4().hex,
        working_dir=str(folder),
        kernel_name=kernel_name,
        python="" if environment is None else own.executable,
        own_python=(own.executable, own.packages) if environment is None else None,
        env=own_python.variables(own, os.environ),
        process_limits=dict(process_limits or {}),
        isolation=None if isolation is None else isolation.to_json(),
    )


def _make_runtime_dir() -> Path:
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > _RUNTIME_PATH_BYTES:
        folder = "/tmp"  # noqa: S108 - a socket's path must be short; mkdtemp makes it private
    return Path(tempfile.mkdtemp(prefix="nbk-", dir=folder))


def python_environment() -> dict[str, str]:
    """The environment of a Python child that imports this package and shall know no secret."""
    environment = child_environment(os.environ)
    # The child imports this very package, wherever the worker found it.
    root = str(Path(__file__).resolve().parents[3])
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if root not in path:
        environment["PYTHONPATH"] = os.pathsep.join([*path, root])
    return environment


async def finish_even_if_cancelled(work: Awaitable[None]) -> None:
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
