"""Managers of notices killed at random: each notice is told exactly once, and soon."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from support.campaigns import Tally, conclude, times
from support.event_store import open_pool, open_store
from support.notices import Runs, told
from support.paths import ROOT
from support.schedules import CALLER, scheduled

from nbledger_domain.notices import kernel_notice_id
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=240, ci=600, full=1800)),
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

ROUNDS = times(small=3, ci=10, full=50)
RUNS = 4
TOLD_SECONDS = 15.0
"""From a kill until what came due with it is told; of the clock of this machine."""
_PATIENCE = 120.0
_OTHER = msgspec.structs.replace(CALLER, tenant_id=uuid4(), project_id=uuid4())


class _Stage:
    """A database with a clock to set, and two managers on it, of which one is at work."""

    def __init__(self, dsn: str, pool: Pool, store: EventStore, stack: AsyncExitStack) -> None:
        self.pool = pool
        self.store = store
        self._dsn = dsn
        self._stack = stack
        self._processes: list[Process] = []

    async def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        program = str(Path(__file__).parents[1] / "support" / "notice_process.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, program, self._dsn, stdout=PIPE, env=environment
        )
        self._stack.push_async_callback(_ended, process)
        self._processes.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while await process.stdout.readline() not in {b"ready\n", b""}:
                pass

    async def kill(self, place: int) -> None:
        """Kill the one that has been there longest (0), or the other, and start another."""
        victim = self._processes.pop(place)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        await self.start()

    async def step(self, seconds: float) -> None:
        async with acquire(self.pool) as connection:
            await connection.execute(
                "UPDATE test_clock SET time = time + $1", timedelta(seconds=seconds)
            )

    async def until(
        self, holds: Callable[[], Awaitable[bool]], *, step: float = 0, alive: str = ""
    ) -> None:
        """Wait, while the clock goes on in steps and a worker says that it is alive."""
        async with asyncio.timeout(_PATIENCE):
            while not await holds():
                await self.step(step)
                if alive:
                    offer = WorkerOffer(alive, alive, alive)
                    await worker_registry.heartbeat(self.pool, "w", [offer], capacity=1)
                await asyncio.sleep(0.2)


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(20):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _count(store: EventStore, *subjects: UUID) -> int:
    return sum([len(await told(store, each)) for each in subjects])


@pytest.mark.guarantee("G36")
async def test_each_notice_is_told_once_whoever_is_killed(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("managers of notices killed", TOLD_SECONDS, record_property)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(database_dsn, max_size=8))
        store = await stack.enter_async_context(open_store(pool))
        async with acquire(pool) as connection:
            await connection.execute("CREATE TABLE test_clock AS SELECT clock_timestamp() AS time")
        stage = _Stage(database_dsn, pool, store, stack)
        slow, failing = (
            Runs(store, await scheduled(store, None)),
            Runs(store, await scheduled(store, "0 2 29 2 *")),
        )
        await slow.completed(100, 100, 100, 100, 100)
        await stage.start()
        await stage.start()

        async def scheduled_by_now() -> bool:
            async with acquire(pool) as connection:
                found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM schedule)")
            return found

        await stage.until(scheduled_by_now)
        begun: list[UUID] = []
        kernels = [
            kernel_notice_id(each.tenant_id, each.project_id, "r") for each in (CALLER, _OTHER)
        ]
        for number in range(1, ROUNDS + 1):
            running = [await slow.begin() for _ in range(RUNS)]
            begun += running
            for _ in range(tally.random.choice((3, 4, 6))):
                await failing.failed()
            waiting = [
                (runs, await runs.ask())
                for runs in (
                    Runs(store, uuid4(), kernel_type="r"),
                    Runs(store, uuid4(), caller=_OTHER, kernel_type="r"),
                )
            ]
            await stage.step(300)
            await asyncio.sleep(tally.random.uniform(0, 1.5))
            killed = time.monotonic()
            killing = asyncio.create_task(stage.kill(tally.random.choice((0, 0, 1))))

            async def all_told(number: int = number) -> bool:
                return (
                    await _count(store, slow.notebook_id) >= number * RUNS
                    and await _count(store, failing.notebook_id) >= number
                    and await _count(store, *kernels) >= 4 * number - 2
                )

            await stage.until(all_told, step=400)
            tally.took(time.monotonic() - killed, "told")
            await killing
            # Once more while all of it goes on, and while it ends.
            if tally.random.random() < 0.5:
                await stage.kill(0)

            async def over(number: int = number) -> bool:
                return await _count(store, *kernels) >= 4 * number

            await stage.until(over, alive="r")
            for runs, each in waiting:
                await runs.cancel(each)
            await worker_registry.remove(pool, "w")
            for each in running:
                await slow.end(each, after=100)
            await failing.succeeded()
        # Whoever is there looks once more at all that there was.
        await stage.step(10_000)
        await asyncio.sleep(3)

        of_runs = Counter(data["executionId"] for _, data in await told(store, slow.notebook_id))
        tally.expect(of_runs == Counter(map(str, begun)), f"of runs: {of_runs}")
        series = [data["failures"] for _, data in await told(store, failing.notebook_id)]
        tally.expect(len(series) == ROUNDS, f"of schedules: {series}")
        for each in kernels:
            kinds = [what for what, _ in await told(store, each)]
            wanted = ["kernel-unavailable", "kernel-available"] * ROUNDS
            tally.expect(kinds == wanted, f"of kernel types: {kinds}")
    conclude(ROUNDS, tally)
