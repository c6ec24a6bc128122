"""What a careful program without group commit does: one asyncpg INSERT, one transaction each.

Choices in the peer's favour: uvloop; a connection for each caller, opened before the clock
starts; the statement prepared once a connection; autocommit, so an append is a single round
trip; digest, chain and JSON text computed beforehand; no version look-up, no ordering lock, no
NOTIFY. The unique indexes refuse conflicts.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import asyncpg
import uvloop

from benchmarks.peers.protocol import serve

_loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
_connections: list[Any] = []
_insert: dict[str, Any] = {}


def start(connect: dict[str, Any], callers: int, insert: str) -> None:
    """Open the connections; `insert` takes stream id, version, event id, subject id and time."""
    _insert["sql"] = insert

    async def open_all() -> None:
        for _ in range(callers):
            _connections.append(await asyncpg.connect(**connect))

    _loop.run(open_all())


def measure(seconds: float) -> dict[str, float]:
    async def caller(connection: Any, end: float) -> int:
        statement = await connection.prepare(_insert["sql"])
        stream = uuid.uuid4()
        version = 0
        while time.perf_counter() < end:
            version += 1
            await statement.fetchval(stream, version, uuid.uuid4(), datetime.now(UTC))
        return version

    async def run() -> dict[str, float]:
        begin = time.perf_counter()
        counts = await asyncio.gather(*(caller(c, begin + seconds) for c in _connections))
        elapsed = time.perf_counter() - begin
        return {"perSecond": sum(counts) / elapsed, "count": sum(counts)}

    return _loop.run(run())


if __name__ == "__main__":
    serve({"start": start, "measure": measure})
