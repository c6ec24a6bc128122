"""Cancelling 10,000 waiting runs at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from uuid import UUID

from benchmarks.bench import Bench
from benchmarks.figures import Figure, within
from nbledger_application import repository
from nbledger_application.actions.manager import ActionsManager
from nbledger_application.caller import Caller
from nbledger_application.commands.act_on_executions import request_action
from nbledger_domain.execution import Execution, PlannedCell, RunOptions
from nbledger_domain.execution_action import ExecutionAction
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Settings

RUNS = 10_000
_AT_ONCE = 1_024
_SECONDS = 10.0


def bulk_actions(bench: Bench) -> list[Figure]:
    """From the request until each run has ended and the action says so."""
    count = 300 if bench.quick else RUNS
    pool = bench.connect(bench.new_database("bulk"))
    store = EventStore(pool)
    bench.run(store.start())
    caller = Caller("bench", frozenset({Role.EDITOR}), new_id(), new_id(), "bench")

    async def cancelled() -> float:
        runs = await _waiting(store, caller, count)
        manager = ActionsManager(pool, store, Settings())
        began = time.perf_counter()
        action_id = await request_action(
            store, caller, "cancel", runs, wanted="status = Running AND phase = Queued"
        )
        while await manager.tick() is not None:
            pass
        seconds = time.perf_counter() - began
        action = await load(store, ExecutionAction, action_id)
        assert action is not None
        assert action.aggregate.done == count
        return seconds

    values = [bench.run(cancelled()) for _ in range(min(bench.rounds, 3))]
    bench.run(store.close())
    bench.run(pool.close())
    bench.drop_database("bulk")
    return [
        within(
            figure=f"{count:,} waiting runs cancelled by one action",
            unit="s",
            values=values,
            bound=_SECONDS,
        )
    ]


async def _waiting(store: EventStore, caller: Caller, count: int) -> list[UUID]:
    notebook_id = new_id()
    left: Iterator[int] = iter(range(count))
    made: list[UUID] = []

    async def appender() -> None:
        for _ in left:
            run = Execution.request(
                new_id(),
                notebook_id=notebook_id,
                notebook_version="1.0.0",
                notebook_stream_version=1,
                kernel_type="python3",
                cells=[PlannedCell("c1", "code")],
                parameters={},
                options=RunOptions(timeout=60),
                requested_by=caller.actor,
                at=clock.now(),
            )
            stream = caller.stream(run.id, notebook_id)
            await repository.save(store, run, stream, caller.metadata())
            made.append(run.id)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(appender())
    return made
