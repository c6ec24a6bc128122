"""Of several leaders one works, on a real PostgreSQL; another takes over when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.event_store import open_pool
from support.proxy import database_proxy

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.leading import Leader

pytestmark = pytest.mark.timeout(60)

_LOCK = 0x7465_7374_0001


class At:
    """Work that a leader does, and what can be seen of it."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.ready: list[None] = []
        self.readiness = asyncio.Event()
        self.began = 0
        self.pid: int | None = None
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.fault: Exception | None = None
        self.leader = Leader("test", _LOCK, stop, self._on_ready, interruptions=(LookupError,))

    def _on_ready(self) -> None:
        self.ready.append(None)
        self.readiness.set()

    async def work(self, connection: PooledConnection) -> None:
        self.began += 1
        self.pid = await connection.fetchval("SELECT pg_backend_pid()")
        self.begun.set()
        try:
            while not self.leader.stop.is_set():
                if self.fault is not None:
                    fault, self.fault = self.fault, None
                    raise fault
                await connection.execute("SELECT")
                self.leader.succeeded()
                await self.leader.pause(0.01)
        finally:
            self.begun.clear()
            self.ended.set()


@asynccontextmanager
async def leading(pool: Pool) -> AsyncIterator[At]:
    """A leader on this pool, until the end of the block."""
    stop = asyncio.Event()
    at = At(stop)
    task = asyncio.create_task(at.leader.lead(pool, at.work))
    try:
        yield at
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await task


async def test_one_works_and_the_other_takes_over_when_its_connection_is_lost(
    database_dsn: str,
) -> None:
    async with (
        database_proxy(database_dsn) as (proxy, through),
        open_pool(through) as first_pool,
        open_pool(database_dsn) as second_pool,
        leading(first_pool) as first,
    ):
        await first.begun.wait()
        async with leading(second_pool) as second:
            await second.readiness.wait()
            assert (first.began, second.began) == (1, 0)
            await proxy.refuse()
            await second.begun.wait()
            await first.ended.wait()
            # It is there again, and nobody takes the lead from who has it.
            await proxy.start()
        # With its end the lead is free again.
        await first.begun.wait()
        assert (first.began, second.began) == (2, 1)
        assert (len(first.ready), len(second.ready)) == (1, 1)


async def test_work_that_is_cut_off_or_fails_is_taken_up_again(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool, leading(pool) as at:
        await at.begun.wait()
        pid = at.pid
        async with acquire(pool) as connection:
            await connection.execute("SELECT pg_terminate_backend($1)", pid)
        await at.ended.wait()
        await at.begun.wait()
        assert (at.began, len(at.ready)) == (2, 1)
        assert at.pid != pid
        for times, fault in enumerate((LookupError("expected"), RuntimeError("nobody's")), 3):
            at.ended.clear()
            at.fault = fault
            await at.ended.wait()
            await at.begun.wait()
            assert (at.began, len(at.ready)) == (times, 1)


async def test_a_leader_that_is_told_to_stop_leaves_the_lead_to_others(pool: Pool) -> None:
    async with leading(pool) as first:
        await first.begun.wait()
    async with leading(pool) as second:
        await second.begun.wait()
    assert (first.began, second.began) == (1, 1)
