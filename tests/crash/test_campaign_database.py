"""A database that is stopped, and one that is restarted, under running notebooks: none is lost.

At full size with the default leases. Each lane has a server, a sweeper and a worker of its own.
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psutil
import pytest
from support.campaigns import Tally, conclude, size, times
from support.executions import Stage, make_settings, stage
from support.workers import worker_process

from nbledger.embedded.postgres import EmbeddedPostgres, start_postgres
from nbledger_domain.execution import TERMINAL_EVENTS, ExecutionStatus
from nbledger_infrastructure import settings
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    acquire,
    migrate,
)

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=240, ci=600, full=3600)),
    pytest.mark.skipif(sys.platform != "linux", reason="stops processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

PAUSES = times(small=1, ci=4, full=50)
RESTARTS = times(small=1, ci=4, full=50)
LANES = times(small=1, ci=2, full=2)
NOTEBOOKS = times(small=4, ci=20, full=20)
"""Running at once in each lane."""
SHORTEST = 5.0
LONGEST = times(small=8, ci=20, full=60)
BACK_SECONDS = 15.0
"""From the end of a fault until every lease is renewed."""

_CELLS = 30
_CELL_SECONDS = 0.4
_TIMEOUT = 120.0
"""Seconds for a run, which takes some 20 s, and more on a busy machine. A fault before its first
cell does not count."""
_PATIENCE = 180.0


class Lane:
    """A server under running notebooks."""

    def __init__(self, server: EmbeddedPostgres, scene: Stage, tally: Tally) -> None:
        self.server = server
        self.scene = scene
        self.tally = tally
        self._asked: list[UUID] = []

    async def keep_running(self) -> None:
        """Have so many notebooks running, or waiting for the database, until cancelled."""
        while True:
            try:
                while await self._running() < NOTEBOOKS:
                    await self._ask()
            except (DatabaseUnavailableError, *UNAVAILABLE):
                pass  # the fault; what was asked for may have been recorded, and then runs unseen
            await asyncio.sleep(0.5)

    async def _ask(self) -> None:
        code = f"import time; time.sleep({_CELL_SECONDS})"
        cells = [f"{code}; print({number})" for number in range(_CELLS)]
        found = await self.scene.request(*cells, timeout=_TIMEOUT)
        self._asked.append(found)
        await self.scene.command(found)

    async def _running(self) -> int:
        ended = [kind.TYPE for kind in TERMINAL_EVENTS]
        async with acquire(self.scene.pool) as connection:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM unnest($1::uuid[]) AS run WHERE NOT EXISTS ("
                " SELECT FROM event WHERE stream_id = run AND type = ANY ($2))",
                self._asked,
                ended,
            )
        return count

    async def leases(self, condition: str = "true") -> int:
        """How many leases meet the condition."""
        async with acquire(self.scene.pool) as connection:
            count: int = await connection.fetchval(
                f"SELECT count(*) FROM execution_lease WHERE {condition}"
            )
        return count

    async def until_running(self, feeding: asyncio.Task[None]) -> None:
        """Wait until notebooks are in the hands of the worker; raises what has ended `feeding`."""
        async with asyncio.timeout(_PATIENCE):
            while await self.leases() < NOTEBOOKS // 2:
                if feeding.done():
                    feeding.result()
                await asyncio.sleep(0.1)

    async def until_back(self) -> None:
        """Wait until every run is told to be alive again.

        The lease of one that ended while nobody could release it runs out.
        """
        late = (
            "expires_at < clock_timestamp() + interval '2 seconds'"
            " AND execution_id IN (SELECT execution_id FROM execution_queue)"
        )
        async with asyncio.timeout(_PATIENCE):
            while True:
                with suppress(DatabaseUnavailableError, *UNAVAILABLE):
                    if not await self.leases(late):
                        return
                await asyncio.sleep(0.05)

    def moment(self) -> float:
        """The seconds that a fault lasts: many short ones, and a few long ones."""
        return SHORTEST * math.exp(self.tally.random.random() * math.log(LONGEST / SHORTEST))

    async def pause(self) -> None:
        """Hold all of the server's processes."""
        server = psutil.Process(self.server.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self.moment())
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Stop the server, or kill it, and start it again on its data."""
        seconds = self.moment()
        begun = time.monotonic()
        if self.tally.random.random() < 0.5:
            self.server.process.kill()
        await self.server.stop()
        await asyncio.sleep(begun + seconds - time.monotonic())
        self.server = await start_postgres(self.server.data_dir, port=self.server.port)

    async def judge(self) -> None:
        """Every run has ended as if nothing had been."""
        for execution_id in self._asked:
            execution = await self.scene.until(execution_id, seconds=_PATIENCE)
            types = await self.scene.types(execution_id)
            if execution.status is not ExecutionStatus.COMPLETED or "attempt-lost" in types:
                self.tally.faults.append(
                    f"{execution_id}: {execution.status}, {execution.termination_code},"
                    f" lost {types.count('attempt-lost')} times"
                )
        self.tally.ends["runs"] = self.tally.ends.get("runs", 0) + len(self._asked)


@asynccontextmanager
async def lane_of(
    folder: Path, kafka: str, data: Path, tally: Tally, prefix: str
) -> AsyncIterator[Lane]:
    """A lane whose notebooks run."""
    server = await start_postgres(data)
    lane: Lane | None = None
    try:
        await migrate(server.dsn)
        made = make_settings(server.dsn, kafka, prefix, folder, lease_seconds=4.0)
        usual = settings.Settings()
        worker: dict[str, Any] = {"concurrency": NOTEBOOKS, "pool_max": 4}
        if size() == "full":
            worker |= {
                "lease_seconds": usual.worker.lease_seconds,
                "renew_seconds": usual.worker.renew_seconds,
            }
            made = msgspec.structs.replace(made, recovery=usual.recovery)
        made = msgspec.structs.replace(made, worker=msgspec.structs.replace(made.worker, **worker))
        async with (
            stage(made) as scene,
            scene.sweeper(),
            worker_process(made, str(uuid.uuid4()), log=folder / "worker.log"),
        ):
            lane = Lane(server, scene, tally)
            yield lane
    finally:
        await (server if lane is None else lane.server).stop()


@pytest.mark.guarantee("G8")
async def test_no_run_is_lost_to_a_database_that_pauses_or_restarts(
    kafka: str, service_dir: Path, tmp_path: Path, record_property: Any
) -> None:
    tally = Tally(
        "a database away for 5 s and more: until it is back", BACK_SECONDS, record_property
    )
    faults = ["pause"] * PAUSES + ["restart"] * RESTARTS
    tally.random.shuffle(faults)
    left = iter(faults)

    async def run_lane(number: int) -> None:
        folder = tmp_path / f"lane-{number}"
        folder.mkdir()
        prefix = f"t{uuid.uuid4().hex[:16]}"
        data = service_dir / f"data-{number}"
        async with lane_of(folder, kafka, data, tally, prefix) as lane:
            feeding = asyncio.create_task(lane.keep_running())
            for fault in left:
                await lane.until_running(feeding)
                await asyncio.sleep(tally.random.uniform(0, 2))
                await (lane.pause() if fault == "pause" else lane.restart())
                begun = time.monotonic()
                await lane.until_back()
                tally.took(time.monotonic() - begun, f"{fault}s")
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await lane.judge()

    async with asyncio.TaskGroup() as group:
        for number in range(LANES):
            group.create_task(run_lane(number))
    conclude(PAUSES + RESTARTS, tally)
