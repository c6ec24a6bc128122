"""Process managers killed at random while many runs are cancelled and rerun: each exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import pytest
from support.actions import CALLER, a_notebook, asked_to_stop, reruns, waiting_run
from support.campaigns import Tally, conclude, times
from support.event_store import open_pool, open_store
from support.paths import ROOT
from support.schedules import end_runs

from nbledger_application import repository
from nbledger_application.commands.act_on_executions import request_action
from nbledger_domain.execution_action import ExecutionAction
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.postgres.event_store import EventStore

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=180, ci=600, full=1800)),
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

KILLS = times(small=3, ci=10, full=50)
CANCELLED = times(small=300, ci=1_000, full=10_000)
RERUN = times(small=120, ci=400, full=4_000)
GO_ON_SECONDS = 15.0
"""From a kill until the action has gone on; of the clock of this machine."""
_PATIENCE = 120.0


class Managers:
    """Process managers on a database, one at work and one that stands by."""

    def __init__(self, dsn: str, stack: AsyncExitStack) -> None:
        self._dsn, self._stack = dsn, stack
        self.running: list[Process] = []

    async def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        program = str(Path(__file__).parents[1] / "support" / "scheduler_process.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, program, self._dsn, stdout=PIPE, env=environment
        )
        self._stack.push_async_callback(_ended, process)
        assert process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while await process.stdout.readline() not in {b"ready\n", b""}:
                pass
        self.running.append(process)

    async def kill(self) -> None:
        """Kill the one that has been there longest."""
        victim = self.running.pop(0)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _through(store: EventStore, actions: list[UUID]) -> tuple[int, bool]:
    """How many executions are dealt with, and whether all actions are over."""
    loaded = [await load(store, ExecutionAction, each) for each in actions]
    found = [each.aggregate for each in loaded if each is not None]
    return sum(each.through for each in found), all(each.outcome for each in found)


@pytest.mark.guarantee("G33")
async def test_actions_go_on_wherever_a_manager_is_killed(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("process managers killed amid bulk actions", GO_ON_SECONDS, record_property)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(database_dsn, max_size=8))
        store = await stack.enter_async_context(open_store(pool))
        async with acquire(pool) as connection:
            await connection.execute("CREATE TABLE test_clock AS SELECT clock_timestamp() AS time")
        notebook = await a_notebook(store)

        async def many(count: int) -> list[UUID]:
            made = [waiting_run(notebook) for _ in range(count)]
            await asyncio.gather(
                *(
                    repository.save(store, run, CALLER.stream(run.id, notebook), CALLER.metadata())
                    for run in made
                )
            )
            return [run.id for run in made]

        waiting, ended = await many(CANCELLED), await many(RERUN)
        await end_runs(store, ended)
        managers = Managers(database_dsn, stack)
        await managers.start()
        await managers.start()
        actions: list[UUID] = []
        # In parts, so that there is something under way at each kill.
        for part in range(KILLS):
            actions += [
                await request_action(store, CALLER, "cancel", waiting[part::KILLS]),
                await request_action(store, CALLER, "rerun", ended[part::KILLS]),
            ]
            before, _ = await _through(store, actions)
            await asyncio.sleep(tally.random.random() * 0.8)
            began = time.monotonic()
            await managers.kill()
            over = False
            async with asyncio.timeout(_PATIENCE):
                now = before
                while now == before and not over:
                    await asyncio.sleep(0.05)
                    now, over = await _through(store, actions)
            tally.took(time.monotonic() - began, "over" if over else "went on")
            await managers.start()
        async with asyncio.timeout(_PATIENCE):
            while not (await _through(store, actions))[1]:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.1)
        tally.expect(await asked_to_stop(pool) == Counter(waiting), "not each was cancelled once")
        tally.expect(await reruns(pool) == Counter(ended), "not each was rerun once")
        for action_id in actions:
            loaded = await load(store, ExecutionAction, action_id)
            assert loaded is not None
            found = loaded.aggregate
            tally.expect(
                found.done == found.total, f"{found.skipped} skipped, {found.failed} failed"
            )
    conclude(KILLS, tally)
