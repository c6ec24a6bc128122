"""Processes of the figures of webhooks: a receiver, and the process managers that send to it.

`python -m benchmarks.webhook_processes receive` prints its port, and for each line on its standard
input what has come since: `path id seconds` a line, then an empty one. `… send DSN` prints `ready`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import uvloop

from nbledger_infrastructure.settings import Executions, Postgres, Settings, Webhooks
from nbledger_workers.sweeping.process_managers import run

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Receiving(asyncio.Protocol):
    """Answers 200 to what comes; below `/hang` nothing."""

    def __init__(self, got: list[str]) -> None:
        self._got = got
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of uvloop: no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._next()) is not None:
            at = time.time()
            path = request.split(b" ", 2)[1].decode()
            _, _, rest = request.lower().partition(b"webhook-id: ")
            self._got.append(f"{path} {rest[:36].decode()} {at:.6f}")
            if not path.startswith("/hang"):
                self._transport.write(_ANSWER)

    def _next(self) -> bytes | None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return head


async def _receive() -> None:
    got: list[str] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Receiving(got), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        told = [*got, ""]
        got.clear()
        print("\n".join(told), flush=True)


async def _send(dsn: str) -> None:
    settings = Settings(
        postgres=Postgres(dsn=dsn),
        execution=Executions(queue_without_worker=True),
        webhooks=Webhooks(allowed_networks=["127.0.0.0/8"]),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop, lambda: print("ready", flush=True)))
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    stop.set()
    await running


if __name__ == "__main__":
    uvloop.run(_receive() if sys.argv[1] == "receive" else _send(sys.argv[2]))
