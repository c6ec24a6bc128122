"""Bounds what lies received of a kernel's channel and is not worked on yet.

ZeroMQ receives in a thread of its own, as fast as a kernel sends, and can bound what waits only by
the number of messages, of which each may be of any size. So the bytes of a channel pass through
here, and no more do while too many wait. Then the kernel's own queue grows, within the memory limit
of its run, or a kernel of another make drops what it cannot keep.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

#: Bytes of one channel that may wait, beside one message of any size.
MOST_WAITING: Final = 32_000_000

_CHUNK_BYTES: Final = 1 << 18
_RETRY_SECONDS: Final = 0.005
_MOST_RETRY_SECONDS: Final = 0.1
_CHANNELS: Final = ("shell", "iopub", "stdin")
# Of ZeroMQ's protocol (ZMTP 3): flags and length before each frame.
_SHORT_FRAME: Final = 255
_SHORT_HEAD, _LONG_HEAD = 2, 9


class Passage:
    """One channel: `open` it at a path, tell it what was `taken`, and `close` it at the end."""

    def __init__(self, kernel: Path, *, most_waiting: int = MOST_WAITING) -> None:
        self._kernel = kernel
        self._most = most_waiting
        self._waiting = 0
        self._starving = False
        self._room = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        #: Whether the kernel was held up since this was last set to False.
        self.held = False

    async def open(self, path: Path) -> None:
        """Wait for ZeroMQ's connection at this path; one at a time, to the kernel's own socket."""
        self._server = await asyncio.start_unix_server(self._serve, path, limit=_CHUNK_BYTES)

    async def close(self) -> None:
        """Pass nothing on any more."""
        if self._server is not None:
            self._server.close()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    def begin(self) -> None:
        """Count from here on: nothing waits."""
        self._waiting, self.held = 0, False
        self._room.set()

    def taken(self, frames: Sequence[bytes]) -> None:
        """A message of these frames waits no more."""
        self._waiting -= sum(
            len(frame) + (_SHORT_HEAD if len(frame) <= _SHORT_FRAME else _LONG_HEAD)
            for frame in frames
        )
        self._room.set()

    @property
    def waiting(self) -> int:
        """Bytes that have come and were not taken."""
        return self._waiting

    @property
    def starving(self) -> bool:
        """Whether somebody waits for a message, and none is there: then the next may be large."""
        return self._starving

    @starving.setter
    def starving(self, starving: bool) -> None:
        self._starving = starving
        if starving:
            self._room.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._serving is not None and not self._serving.done():
            writer.close()
            return
        # What runs in the kernel sees the path, and finds nobody there from now on.
        if self._server is not None:
            self._server.close()
        self._serving = asyncio.ensure_future(self._pass(reader, writer))
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving
        finally:
            # Also where it was cancelled before it began.
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kernel: asyncio.StreamWriter | None = None
        passing: list[asyncio.Task[Any]] = []
        try:
            source, kernel = await self._connect()
            self._waiting = 0
            asking = asyncio.create_task(_copy(reader, kernel))
            telling = asyncio.create_task(self._copy_bounded(source, writer))
            passing = [asking, telling]
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            if not telling.done() and not asking.result():
                # The kernel takes no more; what it has sent comes all the same.
                await asyncio.wait({telling})
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            # What was written to it is sent all the same.
            writer.close()
            if kernel is not None:
                kernel.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the kernel, which is perhaps about to start."""
        wait = _RETRY_SECONDS
        while True:
            try:
                return await asyncio.open_unix_connection(self._kernel, limit=_CHUNK_BYTES)
            except OSError:
                await asyncio.sleep(wait)
                wait = min(wait * 1.2, _MOST_RETRY_SECONDS)

    async def _copy_bounded(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                while self._waiting > self._most and not self._starving:
                    self.held = True
                    self._room.clear()
                    await self._room.wait()
                self._waiting += len(data)
                sink.write(data)
                await sink.drain()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> bool:
    """Whether the source has ended, or else the sink takes no more."""
    try:
        while data := await source.read(_CHUNK_BYTES):
            sink.write(data)
            await sink.drain()
    except OSError:
        return source.at_eof() or source.exception() is not None
    return True


async def open_passages(manager: Any, ip: Path) -> tuple[Any, dict[str, Passage]]:
    """A client whose channels are bounded, by passages with `ip` for the kernel's, and those.

    `manager` has started the kernel. Where its provisioner has given it other sockets than files,
    there are no passages.
    """
    passages: dict[str, Passage] = {}
    if manager.transport != "ipc":
        return manager.client(context=manager.context), passages
    for name in _CHANNELS:
        port = getattr(manager, f"{name}_port")
        passages[name] = Passage(Path(f"{manager.ip}-{port}"))
        await passages[name].open(Path(f"{ip}-{port}"))
    return manager.client(ip=str(ip), context=manager.context), passages
