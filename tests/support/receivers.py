"""A receiver of webhooks on loopback: remembers what came, and answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec


class Got(NamedTuple):
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent in it."""
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found


class Receiver:
    """Answers 200, or what ``answers`` has next: a status, raw bytes, or None to hang."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers: deque[int | bytes | None] = deque()
        self.always: int | bytes | None = 200
        self.decide: Callable[[Got], int | bytes | None] | None = None
        """Says what is answered to each request, where that is not by the two above."""
        self.release = asyncio.Event()
        self.port = 0
        self._came = asyncio.Condition()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, count: int) -> list[Got]:
        """What came, once it is so much."""
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        async with self._came:
            self.got.append(Got(head[0].split()[1], headers, body))
            self._came.notify_all()
        answer = self._answer(self.got[-1])
        if answer is None:
            await self.release.wait()
            return False
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            return False
        writer.write(b"HTTP/1.1 %d Told\r\nContent-Length: 4\r\nX-Told: yes\r\n\r\ntold" % answer)
        await writer.drain()
        return True

    def _answer(self, got: Got) -> int | bytes | None:
        if self.decide is not None:
            return self.decide(got)
        return self.answers.popleft() if self.answers else self.always


@asynccontextmanager
async def receiver(
    host: str = "127.0.0.1", *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver for the block."""
    made = Receiver()
    server = await asyncio.start_server(made.serve, host, port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.release.set()
        server.close()
