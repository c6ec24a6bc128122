"""32 writers in two processes and four stores, and readers that follow: nothing is lost."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec
import pytest
from support.campaigns import times
from support.event_store import open_pool
from support.paths import TESTS

from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, EventTail, audit

WRITERS = 32
PROCESSES = 2
STORES_PER_PROCESS = 2
READERS = 3
APPENDS = times(small=500, ci=2_000, full=10_000)


async def start_writers(dsn: str, first: int) -> asyncio.subprocess.Process:
    paths = [str(TESTS), *(p for p in sys.path if p)]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.event_store_writer",
        *map(str, (dsn, first, WRITERS // PROCESSES, STORES_PER_PROCESS, APPENDS)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=asyncio.subprocess.PIPE,
    )


async def follow(pool: Pool, total: int, batch_size: int) -> list[tuple[int, str, int, str]]:
    """What a reader saw, in the order it saw it, from the first event on."""
    seen: list[tuple[int, str, int, str]] = []
    async with EventTail(pool, 0, batch_size) as tail:
        while len(seen) < total:
            seen += [
                (e.position, str(e.stream_id), e.version, (e.data or b"").decode())
                for e in await tail.next_batch()
            ]
    return seen


@pytest.mark.guarantee("G1")
@pytest.mark.campaign
@pytest.mark.timeout(60 + APPENDS)
async def test_nothing_is_skipped_out_of_order_or_lost(database_dsn: str) -> None:
    total = WRITERS * APPENDS
    async with open_pool(database_dsn, max_size=READERS + 2) as pool:
        readers = [
            asyncio.ensure_future(follow(pool, total, batch_size)) for batch_size in (7, 100, 1000)
        ]
        processes = [
            await start_writers(database_dsn, n * WRITERS // PROCESSES) for n in range(PROCESSES)
        ]
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
        assert [process.returncode for process in processes] == [0] * PROCESSES
        lines = [line.split() for out, _ in outputs for line in out.decode().splitlines()]
        assert len(lines) == WRITERS
        assert await EventStore(pool).head_position() == total
        async with asyncio.timeout(60 + APPENDS / 10):
            views = await asyncio.gather(*readers)
        report = await audit.verify(pool)

    # The positions that the writers were told are all there are, each told once.
    told = {int(number): [int(p) for p in positions] for number, _, *positions in lines}
    assert sorted(p for positions in told.values() for p in positions) == list(range(1, total + 1))
    # Conflicts did happen, among the others, and failed alone.
    assert sum(int(conflicts) for _, conflicts, *_ in lines) > 0

    for view in views:
        # 0 skipped, 0 lost, 0 twice, 0 out of order.
        assert [position for position, *_ in view] == list(range(1, total + 1))
        versions: dict[str, int] = {}
        by_writer: dict[int, list[tuple[int, int]]] = {}
        for position, stream, version, data in view:
            assert version == versions.get(stream, 0) + 1
            versions[stream] = version
            content = msgspec.json.decode(data)
            by_writer.setdefault(content["writer"], []).append((content["n"], position))
        # Each event stands at the position its writer was told, in the order it was written.
        assert by_writer == {
            number: list(enumerate(positions)) for number, positions in told.items()
        }
    assert report.intact
    assert report.events == total
