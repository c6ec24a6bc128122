"""Process managers side by side: ready when all of them are, and each at work once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.event_store import connect

from nbledger_infrastructure.postgres import leading
from nbledger_infrastructure.settings import Postgres, Settings
from nbledger_workers.sweeping import process_managers
from nbledger_workers.sweeping.process_managers import Surroundings, _Manager

pytestmark = pytest.mark.timeout(60)


class Ticking:
    """A process manager that works on once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.ticked = asyncio.Event()
        self.ticks = 0

    async def tick(self) -> float | None:
        await self.may.wait()
        self.ticks += 1
        self.ticked.set()
        return 0.01


class Running:
    """One process of them."""

    def __init__(self, dsn: str) -> None:
        self.stop = asyncio.Event()
        self.ready: asyncio.Queue[None] = asyncio.Queue()
        self.settings = Settings(postgres=Postgres(dsn=dsn))

    async def run(self) -> None:
        await process_managers.run(self.settings, self.stop, lambda: self.ready.put_nowait(None))


@asynccontextmanager
async def running(dsn: str) -> AsyncIterator[Running]:
    """Process managers until the end of the block."""
    made = Running(dsn)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.stop.set()
        async with asyncio.timeout(20):
            await task


async def test_they_are_ready_once_when_all_of_them_are(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, list[Ticking]] = {"one": [], "two": []}

    def manager(lock: int, name: str) -> _Manager:
        def start(_: Surroundings) -> Ticking:
            made[name].append(ticking := Ticking())
            if name == "one":
                ticking.may.set()
            return ticking

        return _Manager(lock, start)

    managers = {name: manager(lock, name) for lock, name in enumerate(made, 0x7465_7374_0010)}
    monkeypatch.setattr(process_managers, "MANAGERS", managers)
    async with running(database_dsn) as first:
        while not all(made.values()):  # noqa: ASYNC110 - both start in their own time
            await asyncio.sleep(0.01)
        (one,), (two,) = made.values()
        await one.ticked.wait()
        one.ticked.clear()
        await one.ticked.wait()
        # One works all the time, and the other one has not begun.
        assert (first.ready.qsize(), two.ticks) == (0, 0)
        two.may.set()
        await first.ready.get()
        async with running(database_dsn) as second:
            # Standing by.
            await second.ready.get()
            assert [len(each) for each in made.values()] == [1, 1]
            for ticking in (one, two):
                ticking.ticked.clear()
                await ticking.ticked.wait()
            assert (first.ready.qsize(), second.ready.qsize()) == (0, 0)


async def test_those_of_the_service_come_up_and_end(database_dsn: str) -> None:
    async with running(database_dsn) as process:
        await process.ready.get()
    assert process.ready.empty()


async def test_one_that_has_nothing_to_do_keeps_its_place(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Ticking] = []

    class Resting(Ticking):
        async def tick(self) -> float | None:
            await super().tick()
            return None

    def start(_: Surroundings) -> Resting:
        made.append(resting := Resting())
        resting.may.set()
        return resting

    monkeypatch.setattr(process_managers, "MANAGERS", {"one": _Manager(0x7465_7374_0020, start)})
    monkeypatch.setattr(leading, "SILENT_SECONDS", 1)
    monkeypatch.setattr(process_managers, "TICK_SECONDS", 0.25)
    async with running(database_dsn), connect(database_dsn) as other:
        # Longer than a silent session lives.
        while not made or made[0].ticks < 8:
            assert len(made) <= 1
            await asyncio.sleep(0.05)
        assert not await other.fetchval("SELECT pg_try_advisory_lock($1)", 0x7465_7374_0020)
    assert len(made) == 1
