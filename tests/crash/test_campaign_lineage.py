"""Tellers of lineage killed at random while their receiver comes and goes: no run is left out."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec
import pytest
from support.campaigns import Tally, conclude, times
from support.event_store import open_pool, open_store
from support.lineage import Tellers, World, documents, states
from support.receivers import receiver

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=240, ci=600, full=1800)),
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

ROUNDS = times(small=3, ci=10, full=100)
RUNS = 20
TOLD_SECONDS = 30.0
"""From a kill until all of the round's runs are told, an outage of the receiver included."""
_PATIENCE = 120.0
_AWAY = (503, 401, b"", None)


@pytest.mark.guarantee("G61")
async def test_each_run_is_told_whoever_is_killed(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("tellers of lineage killed", TOLD_SECONDS, record_property)
    dice = tally.random
    expected: set[str] = set()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(database_dsn))
        store = await stack.enter_async_context(open_store(pool))
        there = await stack.enter_async_context(receiver())
        worlds = [World(store) for _ in range(3)]
        for world in worlds:
            await world.save(world.notebook)
        tellers = Tellers(database_dsn, there.url.removesuffix("/hook"), stack)
        await tellers.start()
        await tellers.start()
        ended: set[str] = set()
        seen = 0
        for _ in range(ROUNDS):
            begun = len(there.got)
            if dice.random() < 0.5:
                # It hangs, or refuses for now, in the midst of it.
                there.answers.extend([200] * dice.randrange(20) + [dice.choice(_AWAY)])
            runs = []
            for _ in range(RUNS):
                world = dice.choice(worlds)
                runs.append(await world.run(world.request()))
            expected |= {str(run.id) for run in runs}
            await there.until(begun + dice.randrange(1, RUNS))
            place = 0 if dice.random() < 0.8 else 1
            at = time.monotonic()
            await tellers.kill(place)
            await tellers.start()
            async with asyncio.timeout(_PATIENCE):
                while not expected <= ended:
                    await there.until(seen + 1)
                    for got in there.got[seen:]:
                        document = msgspec.json.decode(got.body)
                        if document.get("eventType") == "COMPLETE":
                            ended.add(document["run"]["runId"])
                    seen = len(there.got)
            tally.took(time.monotonic() - at, "at work" if place == 0 else "standing by")
        told = states(documents(there.got))
    tally.expect(told.keys() == expected, "runs that were told are not those that were")
    for run_id, found in told.items():
        tally.expect(found == ["START", "COMPLETE"], f"run {run_id} was told as {found}")
    conclude(ROUNDS, tally)
