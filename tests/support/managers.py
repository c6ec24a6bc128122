"""Process managers as processes of their own, on a database whose clock a test may set."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

import msgspec
from support.campaigns import Tally
from support.event_store import open_pool, open_store
from support.paths import ROOT

from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Webhooks
from nbledger_workers.sweeping.process_managers import MANAGERS

PATIENCE = 120.0


class Scene:
    """A database with a clock to set, and processes that run the managers on it."""

    def __init__(
        self, dsn: str, pool: Pool, store: EventStore, stack: AsyncExitStack, webhooks: Webhooks
    ) -> None:
        self.pool = pool
        self.store = store
        self._dsn = dsn
        self._stack = stack
        self._webhooks = msgspec.json.encode(webhooks).decode()

    async def start(self) -> Process:
        """One more process; at work, or standing by."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        program = str(Path(__file__).with_name("scheduler_process.py"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, program, self._dsn, self._webhooks),
            stdout=PIPE,
            env=environment,
        )
        self._stack.push_async_callback(_ended, process)
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while await process.stdout.readline() not in {b"ready\n", b""}:
                pass
        return process

    async def set_clock(self, moment: datetime) -> datetime:
        """Set the clock; returns the real time at which it was."""
        async with acquire(self.pool) as connection:
            at: datetime = await connection.fetchval(
                "UPDATE test_clock SET time = $1 RETURNING clock_timestamp()", moment
            )
        return at

    async def held(self, manager: str) -> bool:
        """Whether a process is at work on what this manager does."""
        async with acquire(self.pool) as connection:
            found: bool = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND ((classid::bigint << 32) | objid::bigint) = $1"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                MANAGERS[manager].lock,
            )
        return found

    async def kill(self, processes: list[Process], tally: Tally, manager: str) -> None:
        """Kill the one that has been there longest, or at times the other, and start another."""
        place = 0 if tally.random.random() < 0.8 else 1
        victim = processes.pop(place)
        began = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        async with asyncio.timeout(PATIENCE):
            while not await self.held(manager):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)
        tally.took(time.monotonic() - began, "taken over" if place == 0 else "went on")
        processes.append(await self.start())

    async def until(self, condition: str) -> None:
        """Wait until the database says that it is so."""
        async with asyncio.timeout(PATIENCE):
            while not await self._holds(condition):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.1)

    async def _holds(self, condition: str) -> bool:
        async with acquire(self.pool) as connection:
            found: bool = await connection.fetchval(f"SELECT {condition}")
        return found


@asynccontextmanager
async def scene(
    dsn: str, *, real_time: bool = False, webhooks: Webhooks | None = None
) -> AsyncIterator[Scene]:
    """A scene, whose clock stands until it is set; in ``real_time`` it is the database's."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn, max_size=8))
        store = await stack.enter_async_context(open_store(pool))
        kind = "VIEW" if real_time else "TABLE"
        async with acquire(pool) as connection:
            await connection.execute(
                f"CREATE {kind} test_clock AS SELECT clock_timestamp() AS time"
            )
        yield Scene(dsn, pool, store, stack, webhooks or Webhooks())


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(20):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
