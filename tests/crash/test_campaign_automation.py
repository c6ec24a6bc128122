"""Process managers killed at random while datasets and cells change, and runs change datasets.

Every change has to be told of by one trigger, and every trigger that has started by one run.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID, uuid4

import msgspec
import pytest
from support.automation import add_version, automatic, edit
from support.campaigns import Tally, conclude, times
from support.managers import Scene, scene
from support.schedules import end_runs

from nbledger_application import queue
from nbledger_domain.automation import AutomationSettings, execution_id_of
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=240, ci=600, full=1800)),
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

KILLS = times(small=3, ci=10, full=50)
SECONDS_BETWEEN = times(small=1, ci=2, full=3)
TAKEOVER_SECONDS = 10.0
"""From a kill until another one is at work; of the clock of this machine."""

SETTINGS = (
    AutomationSettings(quiet_seconds=0),
    AutomationSettings(quiet_seconds=1, max_wait_seconds=3),
    AutomationSettings(on=("dataset",), quiet_seconds=0, min_interval_seconds=2),
)


class Places:
    """Notebooks in a circle of three datasets, and others that depend on these.

    ``bound`` is the dataset of each notebook, ``writes`` the one that its runs give versions.
    """

    def __init__(self) -> None:
        self.datasets = [uuid4() for _ in range(3)]
        self.bound: dict[UUID, UUID] = {}
        self.settings: dict[UUID, AutomationSettings] = {}
        self.writes: dict[UUID, UUID] = {}

    async def make(self, stage: Scene) -> None:
        for place, dataset in enumerate(self.datasets):
            for settings in SETTINGS:
                notebook_id = await automatic(stage.store, settings, dataset=dataset)
                self.bound[notebook_id] = dataset
                self.settings[notebook_id] = settings
                if settings == SETTINGS[-1]:
                    self.writes[notebook_id] = self.datasets[(place + 1) % 3]


async def _work(stage: Scene, places: Places) -> None:
    """End every run after a moment, having written what it writes, until cancelled."""
    while True:
        for each in await queue.late(stage.pool, seconds=0.2):
            notebook_id = (await stage.store.read_stream(each, limit=1))[0].subject_id
            if notebook_id in places.writes:
                await add_version(stage.store, places.writes[notebook_id], by=each)
            await end_runs(stage.store, [each])
        await asyncio.sleep(0.05)


async def _change(stage: Scene, places: Places, tally: Tally) -> None:
    """Change something several times a second, until cancelled."""
    notebooks = list(places.bound)
    while True:
        if tally.random.random() < 0.5:
            await add_version(stage.store, tally.random.choice(places.datasets))
        else:
            await edit(stage.store, tally.random.choice(notebooks))
        await asyncio.sleep(tally.random.expovariate(8.0))


@pytest.mark.guarantee("G34")
async def test_changes_while_managers_are_killed(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("process managers killed", TAKEOVER_SECONDS, record_property)
    async with scene(database_dsn, real_time=True) as stage:
        places = Places()
        await places.make(stage)
        processes = [await stage.start(), await stage.start()]
        working = asyncio.create_task(_work(stage, places))
        changing = asyncio.create_task(_change(stage, places, tally))
        for _ in range(KILLS):
            await asyncio.sleep(SECONDS_BETWEEN * tally.random.random())
            await stage.kill(processes, tally, "automation")
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing
        await stage.until(
            "NOT EXISTS (SELECT FROM automation_trigger)"
            " AND (SELECT position FROM projection_checkpoint WHERE name = 'automation')"
            " = (SELECT max(position) FROM event)"
        )
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        counts: Counter[str] = Counter()
        for notebook_id in places.bound:
            counts += await _check(stage, places, notebook_id, tally)
        record_property("triggers", dict(counts))
        tally.what += f"; {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}"
    conclude(KILLS, tally)


async def _check(stage: Scene, places: Places, notebook_id: UUID, tally: Tally) -> Counter[str]:
    """Note each change that is not told of once, and each run that no trigger has."""
    of_notebook = await stage.store.read_subject(notebook_id)
    versions = await stage.store.read_stream(places.bound[notebook_id])
    expected = sum(each.type == "dataset.version-added.v1" for each in versions)
    if "cells" in places.settings[notebook_id].on:
        expected += sum(each.type == Notebook.CellsUpdated.TYPE for each in of_notebook)
    told: Counter[str] = Counter({"changes": expected})
    counted, started = 0, set()
    for recorded in of_notebook:
        if recorded.type.startswith("trigger."):
            data = msgspec.json.decode(recorded.data or b"{}")
            tally.expect(recorded.version == 1, f"decided twice: {recorded.stream_id}")
            counted += data["changes"]
            told[recorded.type.split(".")[1]] += 1
            if "executionId" in data:
                started.add(execution_id_of(recorded.stream_id))
            loops = [each for each in data.get("chains", []) if str(notebook_id) in each]
            tally.expect(
                ("reason" in data) == bool(loops), f"{recorded.type} with {data.get('chains')}"
            )
    tally.expect(counted == expected, f"{notebook_id}: {counted} of {expected} changes are told of")
    runs = [each.stream_id for each in of_notebook if each.type == Execution.Requested.TYPE]
    tally.expect(sorted(runs) == sorted(started), f"{len(runs)} runs of {len(started)} started")
    return told
