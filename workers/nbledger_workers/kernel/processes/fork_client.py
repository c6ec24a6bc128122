"""The side that asks a fork server: starts it, and talks to what it forks."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nbledger_workers.kernel.processes.environment import child_environment
from nbledger_workers.kernel.processes.family import TOKEN_VARIABLE
from nbledger_workers.kernel.standalone import fork_server, guardian
from nbledger_workers.kernel.standalone.isolation import Preparation

#: What a Python kernel imports at its start and for its first cells; what is missing is left out.
KERNEL_MODULES: Final = (
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    ".publishing:guard",
    "IPython",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "IPython.utils.wildcard",
    "pdb",
    "faulthandler",
    "sqlite3",
    "tornado.platform.asyncio",
    "multiprocessing.connection",
    "numpy.random",
    "pandas",
    # Not its inline backend, which looks for its kernel when it is imported.
    "matplotlib.pyplot",
    "IPython.core.logger",
    # Looks for the processes of a kernel at its end.
    "psutil",
    "resource",
)
SUPERVISOR_MODULES: Final = ("nbledger_workers.kernel.supervising.__main__:preload",)

# Variables that an interpreter or a library reads once, when it is started or loaded.
_READ_AT_START: Final = (
    "PYTHON",
    "LD_",
    "DYLD_",
    "LC_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "NUMEXPR_",
    "MPL",
    "MATPLOTLIBRC",
)
_HARMLESS: Final = frozenset({"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"})
_END_SECONDS: Final = 3.0

# What a fork server has beside its environment: room for the mark of a run, which a forked process
# fills in; and the debugger's remarks on how it was started are of no use to anybody.
# matplotlib is to choose what ipykernel chooses for it.
_BESIDES: Final = {
    TOKEN_VARIABLE: "0" * 32,
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


class ForkServerLostError(Exception):
    """The fork server has ended; a new one must be started."""


def can_fork() -> bool:
    """Whether fork servers work here; elsewhere each is started anew."""
    return sys.platform == "linux"


class ForkServer:
    """A fork server: `open` asks it for a channel, `close` ends it with all that it forked.

    It serves as soon as it has imported its modules; what is asked before waits. With `tied` it
    also ends with the thread that started it.
    """

    def __init__(
        self,
        modules: Sequence[str],
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        preparation: Preparation | None = None,
        tied: bool = False,
    ) -> None:
        self.python = python
        self.environment = dict(child_environment() if environment is None else environment)
        options = {
            "preload": list(modules),
            "parent": os.getpid() if tied else 0,
            "preparation": None if preparation is None else preparation.to_json(),
        }
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python, fork_server.__file__, str(theirs.fileno()), json.dumps(options)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**self.environment, **_BESIDES},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The fork server's process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def open(self) -> socket.socket:
        """A channel for one process, to be given to `Forked.start`; raises ForkServerLostError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self._control, [b"channel"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise ForkServerLostError(
                    f"the fork server of kernels has ended: {error}"
                ) from error
        return ours

    async def ready(self) -> dict[str, Any]:
        """Wait for its modules; once only. Returns what it tells; raises ForkServerLostError."""
        message = await receive(self._control)
        if message is None:
            raise ForkServerLostError(
                f"the fork server of kernels ended with {self._process.poll()}"
            )
        return message

    def close(self) -> None:
        """End it, and all that it forked."""
        self._control.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def starts_alike(server: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a process with the environment `wanted` may be forked from one with `server`'s.

    Not when they differ in what an interpreter or its libraries read at their start.
    """
    return _at_start(server) == _at_start(wanted)


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_START) and name not in _HARMLESS
    }


class Forked:
    """A process that a fork server forks: started by `start`, reported on by its guardian."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        channel.setblocking(False)
        self.pid: int | None = None
        self.status: int | None = None
        self.gone = False
        self.error: str | None = None
        #: How many processes of each name it left running, which had to be ended; of those under
        #: "" no name is known. Known when it is gone.
        self.left: dict[str, int] = {}

    def start(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Send the request, with the process's descriptors 0, 1, 2 and so on."""
        try:
            socket.send_fds(self._channel, [json.dumps(request).encode()], list(descriptors))
        except OSError as error:
            raise ForkServerLostError(f"the fork server of kernels has ended: {error}") from error

    async def started(self) -> int:
        """Wait until the process is there; its pid. Raises OSError when it cannot be started."""
        while self.pid is None:
            if self.error is not None or self.gone:
                raise OSError(self.error or "the fork server of kernels has ended")
            await self._next()
        return self.pid

    async def ended(self) -> int:
        """Wait for the process's end; its status, minus the number of a signal."""
        while self.status is None:
            await self._next()
        return self.status

    async def wait_gone(self) -> None:
        """Wait until everything that the process started has ended, too."""
        while not self.gone:
            await self._next()

    def poll(self) -> int | None:
        """The status if the process has ended."""
        while self.status is None and not self.gone:
            try:
                self._take(self._channel.recv(guardian.MESSAGE_BYTES))
            except BlockingIOError:
                break
            except OSError:
                self._take(b"")
        return self.status

    def signal(self, number: int) -> None:
        """Send a signal to the process's group; one that has ended is fine."""
        with contextlib.suppress(OSError):
            self._channel.send(json.dumps({"signal": number}).encode())

    def kill(self) -> None:
        """Have it killed, and all that it started."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go: whatever still lives of it is killed."""
        self._channel.close()

    async def _next(self) -> None:
        """Take the guardian's next word; several may wait for it at once."""
        await readable(self._channel)
        with contextlib.suppress(BlockingIOError):
            try:
                self._take(self._channel.recv(guardian.MESSAGE_BYTES))
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise
                self._take(b"")

    def _take(self, message: bytes) -> None:
        if not message:
            # The guardian was killed; its processes die with it.
            self.gone = True
            if self.status is None:
                self.status = -9
            return
        told = json.loads(message)
        self.pid = told.get("pid", self.pid)
        self.status = told.get("status", self.status)
        self.error = told.get("error", self.error)
        self.gone = told.get("gone", self.gone)
        self.left = told.get("left", self.left)


async def readable(source: socket.socket) -> None:
    """Wait until something can be read."""
    loop = asyncio.get_running_loop()
    # A number of its own, so that several may wait for the same source.
    own = os.dup(source.fileno())
    event = asyncio.Event()
    loop.add_reader(own, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(own)
        os.close(own)


async def receive(source: socket.socket) -> dict[str, Any] | None:
    """The next message; None when there will be none."""
    await readable(source)
    try:
        data = source.recv(guardian.MESSAGE_BYTES)
    except OSError:
        return None
    told: dict[str, Any] | None = json.loads(data) if data else None
    return told


_shared: dict[tuple[str, frozenset[tuple[str, str]]], ForkServer] = {}
_lock = threading.Lock()


def shared(python: str, environment: Mapping[str, str]) -> ForkServer:
    """This process's own fork server of Python kernels for an interpreter and an environment."""
    wanted = _at_start(environment)
    key = (str(Path(python)), frozenset(wanted.items()))
    with _lock:
        found = _shared.get(key)
        if found is None or not found.alive:
            if found is not None:
                atexit.unregister(found.close)
                found.close()
            base = {**child_environment(), **wanted}
            if "HOME" not in base:
                base["HOME"] = str(Path.home())
            for name in _at_start(base).keys() - wanted.keys():
                del base[name]
            found = _shared[key] = ForkServer(KERNEL_MODULES, python=python, environment=base)
            atexit.register(found.close)
        return found
