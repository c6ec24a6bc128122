"""Exports of many events in constant memory, and records of reading that no kill takes away."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec
import psutil
import pytest
from support.api import Api, new_notebook, open_api, settings_for
from support.campaigns import PROPERTY, times
from support.event_store import METADATA, new_event
from support.paths import TESTS

from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.postgres.tokens import Role

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=300, ci=600, full=3600)),
    pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it"),
]

EVENTS = times(small=5_000, ci=20_000, full=100_000)
MOST_GROWTH_MB = 24
"""What exports may take at most beyond what the API took after its first one, a small one."""
READERS = 8
KILLS = times(small=2, ci=10, full=50)
LINES = {"Accept": "application/x-ndjson"}

Reports = Callable[[str, object], None]


@contextlib.asynccontextmanager
async def process(dsn: str, folder: Path) -> AsyncIterator[tuple[Api, psutil.Process]]:
    """An API in a process of its own."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.api_process",
        dsn,
        str(folder),
        cwd=TESTS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        url = ""
        async with asyncio.timeout(60):
            while not url.startswith("http"):
                line = await child.stdout.readline()
                assert line, "the API has ended"
                url = line.decode().strip()
        reading = asyncio.create_task(child.stdout.read())
        async with open_api(settings_for(dsn, folder), url) as api:
            yield api, psutil.Process(child.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        if reading is not None:
            await reading


async def fill(api: Api, count: int) -> None:
    """So many events of some 1,000 bytes, each a little different, in streams of a thousand."""
    for first in range(0, count, 1000):
        stream_id = uuid4()
        stream = Stream(stream_id, stream_id, api.tenant_id, api.project_id)
        events = [
            new_event(
                msgspec.json.encode({"name": f"{uuid4()} {first + number} " + "x" * 950}),
                "dataset.created.v1",
            )
            for number in range(1000)
        ]
        await api.store.append(stream, events, expected_version=0, metadata=METADATA)


async def export(
    client: httpx.AsyncClient, *, packed: bool, slow: bool = False, stop_after: int = 2**62
) -> tuple[int, bytes]:
    """How many lines come, and the last bytes of them; a slow client takes them bit by bit."""
    unpack = zlib.decompressobj(31)
    lines, end, taken = 0, b"", 0
    headers = {**LINES, "Accept-Encoding": "gzip" if packed else "identity"}
    async with client.stream("GET", "/events", headers=headers, timeout=120) as answer:
        assert answer.status_code == 200
        async for piece in answer.aiter_raw(4096 if slow else 1 << 16):
            plain = unpack.decompress(piece) if packed else piece
            lines += plain.count(b"\n")
            end = (end + plain)[-300:]
            taken += len(piece)
            if taken > stop_after:
                break
            if slow:
                await asyncio.sleep(0.0005)
    return lines, end


async def test_exports_take_constant_memory(
    database_dsn: str, tmp_path: Path, record_property: Reports
) -> None:
    """Whole ones, compressed, slow and broken off, several at once."""
    async with process(database_dsn, tmp_path) as (api, server):
        auditor = await api.client(Role.AUDITOR)
        await fill(api, 1000)
        for packed in (True, False):
            await export(auditor, packed=packed)
        before = server.memory_info().rss
        await fill(api, EVENTS)
        peak = [before]
        ended = asyncio.Event()

        async def look() -> None:
            while not ended.is_set():
                peak[0] = max(peak[0], server.memory_info().rss)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), 0.05)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            found = await asyncio.gather(
                export(auditor, packed=False),
                export(auditor, packed=True),
                export(auditor, packed=False, slow=True),
                *(export(auditor, packed=True, stop_after=50_000) for _ in range(3)),
            )
            ended.set()
        growth = (peak[0] - before) / 1e6
        record_property(
            PROPERTY,
            f"exports of {EVENTS + 1000:,} events, three whole and three broken off at once: "
            f"{before / 1e6:.1f} MB before, {growth:.1f} MB more at most (of {MOST_GROWTH_MB})",
        )
        for lines, end in found[:3]:
            assert lines > EVENTS + 1000
            assert b'"complete":true' in end
        assert growth < MOST_GROWTH_MB


async def test_what_was_told_is_recorded_whatever_is_killed(
    database_dsn: str, tmp_path: Path, record_property: Reports
) -> None:
    """Readers ask for histories and exports; the API is killed when an answer begins."""
    told: list[tuple[UUID, str]] = []
    for number in range(KILLS):
        async with process(database_dsn, tmp_path) as (api, server):
            notebook = await new_notebook(await api.client(), "a = 1")
            paths = (f"/notebook/{notebook['notebookId']}/history", "/events?format=jsonl")
            begun = asyncio.Semaphore(0)

            async def read(api: Api, path: str, begun: asyncio.Semaphore) -> None:
                secret, token = await tokens.create(
                    api.pool,
                    name=f"reader {uuid4()}",
                    tenant_id=api.tenant_id,
                    project_ids=None,
                    roles=[Role.AUDITOR],
                )
                client = api.anonymous(base=api.base, headers={"Authorization": f"Bearer {secret}"})
                with contextlib.suppress(httpx.HTTPError):
                    async with client.stream("GET", path) as answer:
                        assert answer.status_code == 200
                        told.append((token.principal_id, path))
                        begun.release()
                        await answer.aread()

            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                for reader in range(READERS):
                    path = paths[(reader + number) % 2]
                    tasks.create_task(read(api, path, begun))
                for _ in range(number % READERS + 1):
                    await begun.acquire()
                server.kill()
            for principal_id, path in told[-READERS:]:
                async with api.pool.acquire() as connection:
                    found = await connection.fetchval(
                        "SELECT count(*) FROM event WHERE type = 'history.read.v1' "
                        "AND metadata ->> 'actor' = $1",
                        str(principal_id),
                    )
                assert found == 1, path
    record_property(
        PROPERTY,
        f"readers while the API is killed {KILLS} times: {len(told)} answers begun, all recorded",
    )
    assert len(told) >= KILLS
