"""A way to a server that can be stalled, refused and cut, as by a network or a stopped server."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 1 << 16


class Proxy:
    """Passes TCP connections on to one address, as long as it is told to."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0
        self.answer: bytes | None = None
        """What every HTTP request is answered with, instead of passing it on."""
        self.break_after: int | None = None
        """Cut a connection once the server has sent so many bytes on it, and all later ones."""
        self._broken = False

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._link, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stall(self) -> None:
        """Take connections and bytes, and pass nothing on until `flow`."""
        self._open.clear()

    def flow(self) -> None:
        """Pass on what was held up, and all that comes."""
        self._open.set()

    async def refuse(self) -> None:
        """Cut all connections and refuse new ones until `start`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        """Reset every connection."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def close(self) -> None:
        """End."""
        await self.refuse()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        onward: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            if self._broken:
                return
            if self.answer is not None:
                await _answer(reader, writer, self.answer)
                return
            back, onward = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, onward))
                group.create_task(self._pass(back, writer, most=self.break_after))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._links.discard(task)
            for end in (writer, onward):
                if end is not None:
                    end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None = None
    ) -> None:
        passed = 0
        while chunk := await reader.read(_CHUNK):
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()
            passed += len(chunk)
            if most is not None and passed >= most:
                self._broken = True
                raise ConnectionAbortedError
        with contextlib.suppress(OSError):
            writer.write_eof()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes
) -> None:
    """Take one HTTP request, and answer it so."""
    head = await reader.readuntil(b"\r\n\r\n")
    told = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if told is not None:
        await reader.readexactly(int(told[1]))
    writer.write(answer)
    await writer.drain()
    writer.write_eof()
    await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def proxy_to(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy for the block."""
    proxy = Proxy(host, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


@contextlib.asynccontextmanager
async def database_proxy(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy to the server of a DSN, and the DSN that leads through it."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    async with proxy_to(parts.hostname, parts.port or 5432) as proxy:
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        yield proxy, urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}"))
