"""What a careful program without group commit does: one asyncpg INSERT, one transaction each.

Choices in the peer's favour: uvloop; a connection for each caller, opened before the clock
starts; the statement prepared once a connection; autocommit, so an append is a single round
trip; salts, digest, chain and JSON text computed beforehand; no version look-up, no ordering lock,
no NOTIFY. The unique indexes refuse conflicts.
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

_INSERT = """
    INSERT INTO event (
        stream_id, version, event_id, type, subject_id, tenant_id, project_id,
        data, metadata, occurred_at, recorded_at, digest, chain, formula, salt, metadata_salt
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp(), $11, $12, 2, $13, $14)
    RETURNING position
"""


def start(dsn: str, callers: int) -> None:
    """Open the connections. Positions come from a sequence: nobody waits for a lock."""

    async def open_all() -> None:
        _connections.extend([await asyncpg.connect(dsn) for _ in range(callers)])
        await _connections[0].execute(
            """
            CREATE SEQUENCE event_position_seq;
            ALTER TABLE event ALTER position SET DEFAULT nextval('event_position_seq');
            """
        )

    _loop.run(open_all())


def measure(seconds: float, type_name: str, data: str, metadata: str) -> dict[str, float]:
    """Appends per second, each caller to a stream of its own over a connection of its own."""
    tenant, project, digest, salt = uuid.uuid4(), uuid.uuid4(), bytes(32), bytes(16)

    async def caller(connection: Any, end: float) -> int:
        statement = await connection.prepare(_INSERT)
        stream = uuid.uuid4()
        version = 0
        while time.perf_counter() < end:
            version += 1
            await statement.fetchval(
                stream,
                version,
                uuid.uuid4(),
                type_name,
                stream,
                tenant,
                project,
                data,
                metadata,
                datetime.now(UTC),
                digest,
                digest,
                salt,
                salt,
            )
        return version

    async def run() -> dict[str, float]:
        begin = time.perf_counter()
        counts = await asyncio.gather(*(caller(c, begin + seconds) for c in _connections))
        elapsed = time.perf_counter() - begin
        return {"perSecond": sum(counts) / elapsed, "count": sum(counts)}

    return _loop.run(run())


if __name__ == "__main__":
    serve({"start": start, "measure": measure})
