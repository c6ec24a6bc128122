"""One kernel's process: its start, its readiness, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.asyncio
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager

from nbledger_workers.kernel.inside import ipython as inside
from nbledger_workers.kernel.inside.preparation import preparation
from nbledger_workers.kernel.processes import family as processes
from nbledger_workers.kernel.processes.environment import kernel_environment
from nbledger_workers.kernel.processes.fork_client import Forked
from nbledger_workers.kernel.processes.provisioner import ZygoteProvisioner, guarded
from nbledger_workers.kernel.protocol import KernelStarted, Launch
from nbledger_workers.kernel.specs import InterpreterKernelSpecManager
from nbledger_workers.kernel.supervising.last_words import last_words

_DEATH_POLL_SECONDS: Final = 0.1
_SHUTDOWN_SECONDS: Final = 3.0
_KILL_SECONDS: Final = 5.0
_STDERR_TAIL_BYTES: Final = 8_000
_MAX_WRITTEN_BYTES: Final = 8_000_000
# However many processes a notebook starts, those that watch over it get their turn at once.
_NICENESS: Final = 5


# Not an expression of its own: what it shows would become the user's last result. After a clean
# SystemExit nobody is to be told how else a person would leave IPython.
_WARM_UP: Final = (
    "\nget_ipython().display_formatter.format(0); print(end='');"
    " __import__('warnings').filterwarnings('ignore', 'To exit: use ')"
)


_SIGNALS_TELL: Final[dict[int, str]] = {
    signal.SIGKILL: ", as the system does when memory runs out",
    signal.SIGABRT: ", as a library does that finds its own state broken,"
    " its file descriptors closed or replaced for example",
}


class StartError(Exception):
    """The kernel did not come up."""


class Kernel:
    """A kernel of one run: `start` it once, `end` it whatever happened.

    With a `channel` a launcher forks it; without it is a child of this process. `died` is set as
    soon as the kernel's process has ended.
    """

    def __init__(self, launch: Launch, channel: socket.socket | None = None) -> None:
        self._launch = launch
        self._channel = channel
        self.died = asyncio.Event()
        self.client: Any = None
        self._manager: AsyncKernelManager | None = None
        self._forked: Forked | None = None
        self._pid: int | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stderr = b""
        self._stderr_pipe: int | None = None
        self._stdout_pipe: int | None = None
        self._written = {"stdout": b"", "stderr": b""}
        self._is_ipython = False
        self._mark_key = secrets.token_hex(16)
        self._writes_past = False

    @property
    def group(self) -> int | None:
        """Process group of the kernel, which leads a session of its own; None before its start."""
        return self._pid

    @property
    def manager(self) -> AsyncKernelManager:
        """The kernel's manager; only after `start`."""
        assert self._manager is not None  # noqa: S101
        return self._manager

    async def start(self) -> KernelStarted:
        """Start the kernel and wait until it answers; raises StartError."""
        launch = self._launch
        working_dir = Path(launch.working_dir)
        manager = self._manager = self._make_manager()
        try:
            spec = manager.kernel_spec
        except NoSuchKernel:
            raise StartError(f"no kernelspec named {launch.kernel_name!r} is installed") from None
        assert spec is not None  # noqa: S101 - or it would have raised
        environment = kernel_environment(os.environ, working_dir)
        environment.update(launch.env)
        environment[processes.TOKEN_VARIABLE] = launch.token
        environment["JUPYTER_RUNTIME_DIR"] = launch.runtime_dir
        _copy_font_cache(Path(environment["HOME"]))
        arguments = []
        if "ipykernel_launcher" in spec.argv:
            arguments.append("--HistoryManager.hist_file=:memory:")
        options: dict[str, Any] = {}
        if self._channel is not None and "kernel_provisioner" not in spec.metadata:
            # Not by its name, which is looked for among all that is installed.
            manager.provisioner = ZygoteProvisioner(
                kernel_id=manager.kernel_id, kernel_spec=spec, parent=manager
            )
            options = {
                "channel": self._channel,
                "launcher_environment": dict(os.environ),
                "isolation": launch.isolation,
                "limits": launch.process_limits,
                "niceness": _NICENESS,
                "own_python": launch.own_python,
            }
        else:
            if "kernel_provisioner" not in spec.metadata:
                spec.argv = guarded(spec.argv)
            options["preexec_fn"] = processes.death_signal(signal.SIGKILL, os.getpid())
        self._stderr_pipe, write = self._pipe("stderr")
        self._stdout_pipe, write_out = self._pipe("stdout")
        try:
            await manager.start_kernel(
                extra_arguments=arguments,
                cwd=launch.working_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=write_out,
                stderr=write,
                **options,
            )
        except OSError as error:
            raise StartError(f"the kernel's program cannot be run: {error}") from error
        finally:
            os.close(write)
            os.close(write_out)
        provisioner: Any = manager.provisioner
        self._pid = provisioner.pid
        self._forked = getattr(provisioner, "forked", None)
        self._watching = asyncio.create_task(self._watch_death())
        self.client = manager.client()
        self.client.start_channels(hb=False)
        started = self._kernel_started(await _ready(self.client))
        if self._is_ipython:
            await _warm_up(self.client, self._mark_key)
        return started

    def _make_manager(self) -> AsyncKernelManager:
        launch = self._launch
        runtime = Path(launch.runtime_dir)
        context = zmq.asyncio.Context()
        # A bounded queue would drop messages in silence when the kernel is the faster one.
        context.setsockopt(zmq.RCVHWM, 0)
        specs = InterpreterKernelSpecManager()
        specs.python = launch.python or sys.executable
        return AsyncKernelManager(
            kernel_name=launch.kernel_name,
            kernel_spec_manager=specs,
            transport="ipc",
            ip=str(runtime / "s"),
            connection_file=str(runtime / "k.json"),
            context=context,
        )

    def _kernel_started(self, info: dict[str, Any]) -> KernelStarted:
        language = info.get("language_info") or {}
        self._is_ipython = info.get("implementation") == "ipython"
        self._writes_past = info.get("implementation") == "IRkernel"
        return KernelStarted(
            language=str(language.get("name", "")),
            language_version=str(language.get("version", "")),
            pid=self.group or 0,
        )

    async def interrupt(self) -> None:
        """Interrupt the running cell the way the kernelspec says."""
        manager = self._manager
        spec = None if manager is None else manager.kernel_spec
        if manager is not None and spec is not None and spec.interrupt_mode == "message":
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await manager.interrupt_kernel()
            return
        self.signal(signal.SIGINT)

    def signal(self, number: int) -> None:
        """Send a signal to the kernel's process group."""
        if self._forked is not None:
            self._forked.signal(number)
        elif self._pid is not None:
            processes.signal_group(self._pid, number)

    def abandon(self) -> None:
        """Kill it and all that it started, at once and from any thread."""
        if self._channel is not None:
            # Its guardian is told by that, which waits for nobody.
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)
        else:
            self.signal(signal.SIGKILL)
            processes.kill_marked(self._launch.token)

    async def _watch_death(self) -> None:
        if self._forked is not None:
            await self._forked.ended()
        else:
            # There is no event for it on every system; polling is a system call.
            while self._status() is None:  # noqa: ASYNC110
                await asyncio.sleep(_DEATH_POLL_SECONDS)
        self.died.set()

    def _status(self) -> int | None:
        if self._forked is not None:
            return self._forked.poll()
        provisioner: Any = None if self._manager is None else self._manager.provisioner
        process = None if provisioner is None else provisioner.process
        status: int | None = None if process is None else process.poll()
        return status

    def death(self) -> str:
        """How the kernel ended, in words, with the last it wrote to stderr."""
        code = self._status()
        if code is None:
            how = "the kernel's process ended"
        elif code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            how = f"the kernel's process was ended by {name}"
            how += _SIGNALS_TELL.get(-code, "")
        elif code == inside.BROKEN_STATUS:
            how = (
                "the kernel had to end: the cell closed or replaced file descriptors that it needs"
                " to be heard"
            )
        else:
            how = f"the kernel's process ended with status {code}"
        return how + self.last_words()

    def _pipe(self, name: str) -> tuple[int, int]:
        """A pipe for what the kernel's process writes to one of its descriptors."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        asyncio.get_running_loop().add_reader(read, self._read_written, read, name)
        return read, write

    def _read_written(self, pipe: int, name: str) -> bool:
        """Read what there is; whether there may be more."""
        try:
            chunk = os.read(pipe, 65536)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(pipe)
            return False
        self._stderr = (self._stderr + chunk)[-_STDERR_TAIL_BYTES:]
        if self._writes_past and sum(map(len, self._written.values())) < _MAX_WRITTEN_BYTES:
            self._written[name] += chunk
        return True

    def written(self) -> dict[str, str]:
        """Text by stream that R has written past its messages since last asked.

        That is what C code and child processes write. An IPython kernel publishes it; others write
        their own log there.
        """
        for pipe, name in ((self._stdout_pipe, "stdout"), (self._stderr_pipe, "stderr")):
            while pipe is not None and self._read_written(pipe, name):
                pass
        found = {name: data.decode("utf-8", "replace") for name, data in self._written.items()}
        self._written = {"stdout": b"", "stderr": b""}
        return {name: text for name, text in found.items() if text}

    def last_words(self) -> str:
        """The end of what the kernel wrote to stderr, for a message."""
        for pipe, name in ((self._stdout_pipe, "stdout"), (self._stderr_pipe, "stderr")):
            if pipe is not None:
                self._read_written(pipe, name)
        text = last_words(self._stderr)
        return f": {text}" if text else ""

    @property
    def is_ipython(self) -> bool:
        """Whether it tells with each reply what its end has to finish."""
        return self._is_ipython

    @property
    def mark_key(self) -> str | None:
        """What it marks the ends of cells with; None of a kernel that does not."""
        return self._mark_key if self._is_ipython else None

    @property
    def left_processes(self) -> dict[str, int]:
        """How many processes of each name outlived it and had to be ended; known after `end`."""
        return {} if self._forked is None else self._forked.left

    async def shut_down(self, *, thread_seconds: float, farewell: str) -> None:
        """Ask it to end by itself.

        An IPython kernel gives its threads so many seconds, and publishes `farewell` at last.
        """
        with contextlib.suppress(Exception):
            await self._ask_to_shut_down(self.manager, thread_seconds, farewell)

    async def end(self, *, politely: bool) -> None:
        """End the kernel, politely for its exit hooks and then by force; nothing of it is left."""
        manager = self._manager
        if manager is not None and self._pid is not None and not self.died.is_set():
            if politely:
                with contextlib.suppress(Exception):
                    await self._ask_to_shut_down(manager, _SHUTDOWN_SECONDS)
                    await self._wait_died(_SHUTDOWN_SECONDS)
            self.signal(signal.SIGKILL)
            await self._wait_died(_KILL_SECONDS)
        # Children that outlived the kernel, in its group or hidden elsewhere.
        if self._forked is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_SECONDS):
                    await self._forked.wait_gone()
        elif self._pid is not None:
            self.signal(signal.SIGKILL)
            await asyncio.to_thread(processes.kill_marked, self._launch.token)
        # Sockets, connection file and context go with this process and its runtime folder.
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _ask_to_shut_down(
        self, manager: AsyncKernelManager, thread_seconds: float, farewell: str | None = None
    ) -> None:
        client = self.client
        if client is not None and self._is_ipython:
            # On the control channel ipykernel's closing main thread and its control thread wait
            # for each other about once in ten times, for ten seconds; on the shell channel one
            # thread does it all.
            content = {
                "restart": False,
                inside.THREAD_SECONDS_MEMBER: thread_seconds,
                inside.FAREWELL_MEMBER: farewell,
            }
            client.shell_channel.send(client.session.msg("shutdown_request", content))
        else:
            await manager.request_shutdown()

    async def _wait_died(self, seconds: float) -> None:
        """Wait for the process's end, at a finer step than the watcher's where there is none."""
        if self._forked is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._forked.ended()
            return
        until = time.monotonic() + seconds
        while self._status() is None and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


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


async def _warm_up(client: Any, key: str) -> None:
    """Have the kernel do once, unseen, what it does for every cell: the first time costs most."""
    code = preparation(key) + _WARM_UP
    request = client.execute(code, silent=True, store_history=False, allow_stdin=False)
    for channel, kind in (
        (client.shell_channel, "execute_reply"),
        (client.iopub_channel, "status"),
    ):
        while True:
            message = await channel.get_msg(timeout=None)
            if (
                message["parent_header"].get("msg_id") == request
                and message["msg_type"] == kind
                and message["content"].get("execution_state", "idle") == "idle"
            ):
                break


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
