"""The supervising child: forked by a fork server, or a program given the worker's process id.

Frames come in on stdin and go out on stdout. When stdin ends, the worker is gone: the kernel and
everything it started are killed and the child ends at once, from a thread of its own, so that a
busy event loop cannot delay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import select
import shutil
import signal
import socket
import sys
import threading
from typing import NoReturn

from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.protocol import (
    PREFIX_BYTES,
    Cancel,
    Confirm,
    Dismiss,
    Launch,
    Outcome,
    ProtocolError,
    RunNotebook,
    UpMessage,
    body_length,
    decode_down,
    frame,
)
from nbledger_workers.kernel.supervising.stop import Stop
from nbledger_workers.kernel.supervising.supervisor import Supervisor

LOST_WORKER_STATUS = 75
_DISMISS_SECONDS = 5.0


def _take_pipes() -> tuple[int, int]:
    """Private copies of stdin and stdout; whatever a library prints goes to stderr instead."""
    down, up = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return down, up


def _read_exactly(pipe: int, length: int) -> bytes | None:
    parts = []
    while length:
        chunk = os.read(pipe, min(length, 1 << 20))
        if not chunk:
            return None
        parts.append(chunk)
        length -= len(chunk)
    return b"".join(parts)


def _read_frame(pipe: int) -> bytes | None:
    prefix = _read_exactly(pipe, PREFIX_BYTES)
    return None if prefix is None else _read_exactly(pipe, body_length(prefix))


class _Child:
    def __init__(self, launch: Launch, down: int, up: int, channel: socket.socket | None) -> None:
        self._launch = launch
        self._channel = channel
        self._down = down
        self._up = up
        self._supervisor: Supervisor | None = None
        self._lock = asyncio.Lock()
        self._unsent = bytearray()
        self._sending: asyncio.Task[None] | None = None
        self._dismissed = asyncio.Event()

    async def run(self) -> None:
        stop = Stop()
        supervisor = Supervisor(self._launch, self._send, stop, self._channel)
        self._supervisor = supervisor
        loop = asyncio.get_running_loop()
        reader = threading.Thread(target=self._listen, args=(loop, stop), daemon=True)
        reader.start()
        try:
            await self._send(await supervisor.run())
            await self._flush()
            # Exit hooks and the interpreter's own end take a processor that the worker needs now.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DISMISS_SECONDS):
                    await self._dismissed.wait()
        finally:
            await supervisor.close(politely=True)
        # Not through the ends of loop and interpreter, which would take apart what goes anyway;
        # and the reading thread sits in a blocking read.
        os._exit(0)

    async def _send(self, message: UpMessage) -> None:
        """Send it together with what follows at once; waits only for what is large."""
        self._unsent += frame(message)
        if len(self._unsent) > select.PIPE_BUF:
            await self._flush()
        elif self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        async with self._lock:
            data, self._unsent = self._unsent, bytearray()
            if not data:
                return
            # A pipe that polls writable takes this much at once.
            if len(data) <= select.PIPE_BUF and select.select([], [self._up], [], 0)[1]:
                self._write(data)
            else:
                # A worker that is slow to read must not stop the watch over the kernel.
                await asyncio.to_thread(self._write, data)

    def _write(self, data: bytearray) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._up, view) :]
        except BrokenPipeError:
            self.abandon()

    def _listen(self, loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
        try:
            while (body := _read_frame(self._down)) is not None:
                message = decode_down(body)
                if isinstance(message, Cancel):
                    loop.call_soon_threadsafe(stop.set, Outcome.CANCELLED, message.reason)
                elif self._supervisor is None:
                    break
                elif isinstance(message, RunNotebook):
                    loop.call_soon_threadsafe(self._supervisor.begin, message)
                elif isinstance(message, Confirm):
                    loop.call_soon_threadsafe(self._supervisor.confirm)
                elif isinstance(message, Dismiss):
                    loop.call_soon_threadsafe(self._dismissed.set)
        except (OSError, ProtocolError, RuntimeError):
            pass
        self.abandon()

    def abandon(self) -> NoReturn:
        """End kernel and child now."""
        try:
            if self._supervisor is not None:
                self._supervisor.abandon()
            shutil.rmtree(self._launch.runtime_dir, ignore_errors=True)
        finally:
            os._exit(LOST_WORKER_STATUS)


def preload() -> None:
    """What a fork server calls before it forks: this module holds all that a child needs."""


def forked() -> None:
    """Run in a process that a fork server forked; the kernel's channel is descriptor 3."""
    _serve(socket.socket(fileno=3))


def main() -> None:
    """Run in a process of its own that starts its kernel itself."""
    if len(sys.argv) > 1:
        family.death_signal(signal.SIGTERM, int(sys.argv[1]))()
    _serve(None)


def _serve(channel: socket.socket | None) -> None:
    """Start the kernel that the first frame asks for and run the notebook of the next."""
    down, up = _take_pipes()
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    body = _read_frame(down)
    if body is None:
        return
    launch = decode_down(body)
    if not isinstance(launch, Launch):
        raise ProtocolError("the first frame must be Launch")
    child = _Child(launch, down, up, channel)
    signal.signal(signal.SIGTERM, lambda *_: child.abandon())
    with contextlib.suppress(OSError):
        os.chdir("/")
    asyncio.run(child.run())


if __name__ == "__main__":
    main()
