"""A way to a server that loses answers, or gives others, connection by connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

_CHUNK = 1 << 14


class Lossy:
    """Passes connections on to one address, each as the next of `plans` says.

    Attributes:
        plans: for each new connection: a number of bytes of the answers after which it is reset, an
            answer that is given in the server's place, or None to pass everything on. After the
            last one everything is passed on.
        requests: heads of the requests that have come.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.plans: list[int | bytes | None] = []
        self.requests: list[str] = []
        self.url = ""
        self._links: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all connections."""
        links = list(self._links)
        for each in links:
            each.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def until(self, text: str) -> None:
        """Wait until the head of a request has had this text, in lower case."""
        async with asyncio.timeout(20):
            while not any(text in head.lower() for head in self.requests):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        plan = self.plans.pop(0) if self.plans else None
        ends = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*ends):
            if isinstance(plan, bytes):
                await self._answer(reader, writer, plan)
            else:
                await self._pass_on(reader, writer, plan)
            # What was written comes through, and only then the end.
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self._note(head)
        told = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if told is not None:
            await reader.readexactly(int(told[1]))
        writer.write(answer)
        await writer.drain()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None
    ) -> None:
        back, onward = await asyncio.open_connection(*self._target)
        there = asyncio.create_task(self._there(reader, onward))
        try:
            await self._back(back, writer, most)
        finally:
            there.cancel()
            onward.transport.abort()
            await asyncio.gather(there, return_exceptions=True)

    async def _there(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            self._note(chunk)
            onward.write(chunk)
            await onward.drain()
        onward.write_eof()

    async def _back(
        self, back: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None
    ) -> None:
        passed = 0
        while chunk := await back.read(_CHUNK):
            kept = chunk if most is None else chunk[: most - passed]
            writer.write(kept)
            await writer.drain()
            passed += len(kept)
            if most is not None and passed >= most:
                return

    def _note(self, chunk: bytes) -> None:
        for head in re.findall(rb"(?m)^[A-Z]+ \S+ HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*", chunk):
            self.requests.append(head.decode())


@contextlib.asynccontextmanager
async def lossy_way(url: str) -> AsyncIterator[Lossy]:
    """A way to the server at ``url`` for the block."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    lossy = Lossy(parts.hostname, parts.port)
    server = await asyncio.start_server(lossy.link, "127.0.0.1", 0)
    lossy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield lossy
    finally:
        server.close()
        await lossy.close()
        await server.wait_closed()
