"""The sealer: what appends lose while it runs, and how far behind it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from benchmarks.appends import append, cell_executed
from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare, within
from nbledger_audit import logs
from nbledger_audit.keys import Signer
from nbledger_domain.transparency.tiles import WIDTH
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, NewEvent, Stream

PACE = 2_000
"""Appends per second while it is measured how far the newest checkpoint is behind."""

WRITERS = 32
METADATA = Metadata(actor="bench", correlation_id=str(new_id()), request_id=str(new_id()))


def sealing(bench: Bench) -> list[Figure]:
    """Appends with a sealer at work against those without one; lag at a pace."""
    type_name, data = cell_executed()
    seconds = 0.2 if bench.quick else 5.0
    sealed_dsn, bare_dsn = bench.new_database("sealed"), bench.new_database("unsealed")
    sealed, bare = bench.connect(sealed_dsn), bench.connect(bare_dsn)

    def appended(pool: Pool) -> float:
        return bench.run(_appended(pool, type_name, data, seconds))

    def beside_the_sealer() -> float:
        rate = appended(sealed)
        # What it has not entered yet would weigh on the round of the other side.
        bench.run(_caught_up(sealed))
        return rate

    with _running(sealed_dsn, bench.scratch / "sealer"):
        rounds = bench.alternate([beside_the_sealer, lambda: appended(bare)])
        behind = bench.run(_behind(sealed, type_name, data, 1.0 if bench.quick else 30.0))
    for pool, name in ((sealed, "sealed"), (bare, "unsealed")):
        bench.run(pool.close())
        bench.drop_database(name)
    return [
        compare(
            figure="durable appends while the sealer runs",
            unit="appends/s",
            against="without a sealer",
            pairs=[(ours, without) for ours, without in rounds],
            bound=0.97,
        ),
        within(
            figure=f"newest checkpoint behind the events, at most, with {PACE:,} appends/s "
            "asked for",
            unit="s",
            values=[behind],
            bound=60,
        ),
    ]


@contextmanager
def _running(dsn: str, folder: Path) -> Iterator[None]:
    """A sealer as a process of its own."""
    folder.mkdir()
    Signer.generate(folder / "key.pem")
    process = subprocess.Popen(
        [sys.executable, "-m", "nbledger", "sealer"],
        env={
            **os.environ,
            "NBLEDGER_POSTGRES_DSN": dsn,
            "NBLEDGER_AUDIT_ORIGIN": "bench.example.com",
            "NBLEDGER_AUDIT_KEY_FILE": str(folder / "key.pem"),
            "NBLEDGER_AUDIT_STATE_FOLDER": str(folder / "signed"),
            "NBLEDGER_HEALTH_PORT": "0",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def _appended(pool: Pool, type_name: str, data: bytes, seconds: float) -> float:
    store = EventStore(pool)
    await store.start()
    try:
        return await append(store, type_name, data, seconds)
    finally:
        await store.close()


async def _caught_up(pool: Pool) -> None:
    """Wait until every event is entered."""
    async with pool.acquire() as connection:
        while await connection.fetchval(  # noqa: ASYNC110 - another process enters
            "SELECT coalesce((SELECT position FROM projection_checkpoint WHERE name = 'sealer'), 0)"
            " < (SELECT max(position) FROM event)"
        ):
            await asyncio.sleep(0.05)


async def _behind(pool: Pool, type_name: str, data: bytes, seconds: float) -> float:
    """The greatest age of an event that no checkpoint covered, in seconds, at a steady pace."""
    tenant = new_id()
    store = EventStore(pool)
    await store.start()
    end = time.monotonic() + seconds

    async def write() -> int:
        stream_id = new_id()
        stream = Stream(stream_id, stream_id, tenant, new_id())
        due, version = time.monotonic(), 0
        while (now := time.monotonic()) < end:
            await asyncio.sleep(max(0.0, due - now))
            event = NewEvent(new_id(), type_name, data, datetime.now(UTC))
            await store.append(stream, [event], expected_version=version, metadata=METADATA)
            due, version = due + WRITERS / PACE, version + 1
        return version

    writing = asyncio.gather(*(write() for _ in range(WRITERS)))
    most = 0.0
    try:
        while not writing.done():
            await asyncio.sleep(0.5)
            most = max(most, await _age(pool, tenant))
        print(f"{sum(await writing) / seconds:.0f} appends/s were reached")
        while (age := await _age(pool, tenant)) > 0:
            most = max(most, age)
            await asyncio.sleep(0.2)
    finally:
        await store.close()
    return most


async def _age(pool: Pool, tenant_id: UUID) -> float:
    """The age of the oldest event of a tenant that its newest checkpoint does not cover."""
    async with pool.acquire() as connection:
        newest = await logs.newest(connection, tenant_id)
        covered = 0
        if newest is not None:
            index, number = divmod(newest.size - 1, WIDTH)
            positions = await logs.positions(connection, tenant_id, index, number + 1)
            covered = (positions or [0])[-1]
        age: float | None = await connection.fetchval(
            "SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 FROM event "
            "WHERE position > $2 AND tenant_id = $1 ORDER BY position LIMIT 1",
            tenant_id,
            covered,
        )
    return age or 0.0
