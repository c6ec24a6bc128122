"""Actions on many executions in tests: carried out, and what became of each execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID, uuid4

import msgspec

from nbledger_application import repository
from nbledger_application.actions.manager import ActionsManager
from nbledger_application.caller import Caller
from nbledger_application.commands.create_notebook import NewNotebook, create_notebook
from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution, PlannedCell, RunOptions
from nbledger_domain.notebook import Environment, Integration
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Executions, Settings

CALLER = Caller("ann", frozenset({Role.EDITOR}), uuid4(), uuid4(), "request-1")
SETTINGS = Settings(execution=Executions(queue_without_worker=True))


async def a_notebook(store: EventStore, caller: Caller = CALLER) -> UUID:
    notebook_id, _ = await create_notebook(
        store,
        caller,
        NewNotebook(
            name="N",
            description="",
            kernel_type="python3",
            template=None,
            integration=Integration(),
            environment=Environment(),
            cells=[Cell(cell_id="c1", cell_type="code", source="1")],
        ),
    )
    return notebook_id


def waiting_run(notebook_id: UUID, *, tags: Sequence[str] = ()) -> Execution:
    """A run of that notebook, to be saved."""
    return Execution.request(
        uuid4(),
        notebook_id=notebook_id,
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=[PlannedCell("c1", "code")],
        parameters={},
        options=RunOptions(timeout=60),
        requested_by=CALLER.actor,
        at=clock.now(),
        tags=tags,
    )


async def waiting_runs(
    store: EventStore, notebook_id: UUID, count: int, *, tags: Sequence[str] = ()
) -> list[UUID]:
    """So many runs that wait for a worker."""
    made: list[UUID] = []
    for _ in range(count):
        run = waiting_run(notebook_id, tags=tags)
        await repository.save(store, run, CALLER.stream(run.id, notebook_id), CALLER.metadata())
        made.append(run.id)
    return made


async def carry_out(pool: Pool, store: EventStore, settings: Settings = SETTINGS) -> None:
    """Until every action has ended, by a process manager of its own."""
    manager = ActionsManager(pool, store, settings)
    while await manager.tick() is not None:
        pass


async def ends(store: EventStore, executions: Sequence[UUID]) -> Counter[str]:
    """How these executions are, by their termination code or else their phase."""
    found: Counter[str] = Counter()
    for execution_id in executions:
        loaded = await load(store, Execution, execution_id)
        assert loaded is not None
        found[str(loaded.aggregate.termination_code or loaded.aggregate.phase)] += 1
    return found


async def asked_to_stop(pool: Pool) -> Counter[UUID]:
    """How often each execution was asked to stop."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            "SELECT stream_id FROM event WHERE type = $1", Execution.CancelRequested.TYPE
        )
    return Counter(row[0] for row in rows)


async def reruns(pool: Pool) -> Counter[UUID]:
    """How often each execution was rerun."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            "SELECT data FROM event WHERE type = $1", Execution.Requested.TYPE
        )
    causes = [msgspec.json.decode(row[0]).get("cause", {}) for row in rows]
    return Counter(UUID(each["executionId"]) for each in causes if each.get("kind") == "rerun")
