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

from nbledger_workers.kernel.channels.backpressure import Passage, open_passages
from nbledger_workers.kernel.inside.members import (
    BROKEN_STATUS,
    FAREWELL_MEMBER,
    THREAD_SECONDS_MEMBER,
)
from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.processes.environment import kernel_environment
from nbledger_workers.kernel.processes.fork_client import Forked
from nbledger_workers.kernel.processes.provisioner import ZygoteProvisioner, guarded
from nbledger_workers.kernel.protocol import KernelStarted, Launch
from nbledger_workers.kernel.specs import InterpreterKernelSpecManager
from nbledger_workers.kernel.supervising.kernel_output import KernelOutput
from nbledger_workers.kernel.supervising.readiness import ready, warm_up

_DEATH_POLL_SECONDS: Final = 0.1
_SHUTDOWN_SECONDS: Final = 3.0
_KILL_SECONDS: Final = 5.0
# However many processes a notebook starts, those that watch over it get their turn at once.
_NICENESS: Final = 5


_SIGNALS_TELL: Final[dict[int, str]] = {
    signal.SIGKILL: ", as the system does when memory runs out",
    signal.SIGABRT: ", as a library does that finds its own state broken,"
    " its file descriptors closed or replaced for example",
}


class StartError(Exception):
    """The kernel did not come up."""


class Kernel:
    """A kernel of one run: `start` it once, `end` it whatever happened.

    With a `channel` a fork server forks it; without it is a child of this process. `died` is set as
    soon as the kernel's process has ended.
    """

    def __init__(self, launch: Launch, channel: socket.socket | None = None) -> None:
        self._launch = launch
        self._channel = channel
        self.died = asyncio.Event()
        self.client: Any = None
        #: What bounds the client's channels, by their names.
        self.passages: dict[str, Passage] = {}
        self._manager: AsyncKernelManager | None = None
        self._forked: Forked | None = None
        self._pid: int | None = None
        self._watching: asyncio.Task[None] | None = None
        #: What its process writes past its messages.
        self.output = KernelOutput()
        self._is_ipython = False
        self._mark_key = secrets.token_hex(16)

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
        environment[family.TOKEN_VARIABLE] = launch.token
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
                "server_environment": dict(os.environ),
                "isolation": launch.isolation,
                "limits": launch.process_limits,
                "niceness": _NICENESS,
                "own_python": launch.own_python,
            }
        else:
            if "kernel_provisioner" not in spec.metadata:
                spec.argv = guarded(spec.argv)
            options["preexec_fn"] = family.death_signal(signal.SIGKILL, os.getpid())
        stdout, stderr = self.output.pipe("stdout"), self.output.pipe("stderr")
        try:
            await manager.start_kernel(
                extra_arguments=arguments,
                cwd=launch.working_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                **options,
            )
        except OSError as error:
            raise StartError(f"the kernel's program cannot be run: {error}") from error
        finally:
            os.close(stdout)
            os.close(stderr)
        provisioner: Any = manager.provisioner
        self._pid = provisioner.pid
        self._forked = getattr(provisioner, "forked", None)
        self._watching = asyncio.create_task(self._watch_death())
        self.client, self.passages = await open_passages(manager, Path(launch.runtime_dir) / "c")
        self.client.start_channels(hb=False, control=False)
        started = self._kernel_started(await ready(self.client))
        # A connection that came later would be a new descriptor in the kernel: it takes the number
        # of one that a cell has closed.
        for passage in self.passages.values():
            await passage.connected.wait()
        if self._is_ipython:
            await warm_up(self.client, self._mark_key)
        return started

    def _make_manager(self) -> AsyncKernelManager:
        launch = self._launch
        runtime = Path(launch.runtime_dir)
        context = zmq.asyncio.Context()
        # What waits is bounded by its bytes. A socket that is full when its peer goes would lose
        # what the peer had sent and it had not read.
        context.setsockopt(zmq.RCVHWM, 0)
        # Nor does it connect to the control socket only once cells run: a new descriptor in the
        # kernel takes the number of one that a cell has closed.
        context.setsockopt(zmq.RECONNECT_IVL, 10)
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
        self.output.keeps = info.get("implementation") == "IRkernel"
        return KernelStarted(
            language=str(language.get("name", "")),
            language_version=str(language.get("version", "")),
            pid=self.group or 0,
            implementation=str(info.get("implementation", "")),
            implementation_version=str(info.get("implementation_version", "")),
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
            family.signal_group(self._pid, number)

    def abandon(self) -> None:
        """Kill it and all that it started, at once and from any thread."""
        if self._channel is not None:
            # Its guardian is told by that, which waits for nobody.
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)
        else:
            self.signal(signal.SIGKILL)
            family.kill_marked(self._launch.token)

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
        elif code == BROKEN_STATUS:
            how = (
                "the kernel had to end: the cell closed or replaced file descriptors that it needs"
                " to be heard"
            )
        else:
            how = f"the kernel's process ended with status {code}"
        return how + self.output.last_words()

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
            await asyncio.to_thread(family.kill_marked, self._launch.token)
        # Sockets, passages, connection file and context go with this process and its runtime
        # folder: what the kernel has sent may still be read.
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
                THREAD_SECONDS_MEMBER: thread_seconds,
                FAREWELL_MEMBER: farewell,
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
