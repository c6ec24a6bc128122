"""Chains of runs, however they came about and however far the projector is."""

from __future__ import annotations

import asyncio
import hashlib
import random
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from support.read_models import catch_up
from support.repetitions import end

from nbledger_application.caller import Caller
from nbledger_application.commands.create_notebook import NewNotebook, create_notebook
from nbledger_application.commands.execute_notebook import (
    KernelLanguage,
    RunRequest,
    execute_notebook,
)
from nbledger_application.commands.rerun_execution import (
    RERUN,
    Repetition,
    rerun_execution,
)
from nbledger_application.commands.update_notebook import NotebookUpdate, update_notebook
from nbledger_application.preconditions import Precondition
from nbledger_domain.cells import Cell
from nbledger_domain.errors import (
    ExecutionNotFoundError,
    ExecutionRunningError,
    InvalidInputError,
    NothingToRepairError,
)
from nbledger_domain.execution import CellRange, Execution, RunOptions
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.postgres import database
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Executions
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.executions.repetitions import chains, changes

CALLER = Caller("ann", frozenset({Role.EDITOR}), uuid4(), uuid4(), "request-1")
REPAIR = Repetition(kind="repair", version="newest", datasets="newest")
MIGRATION = Path(database.__file__).with_name("migrations") / "0019_repetitions.sql"
EXECUTIONS = Executions(queue_without_worker=True)
CELLS = [Cell(cell_id=each, cell_type="code", source="1") for each in "abcd"]


def new_notebook(*cells: Cell, binding: str | None = None) -> NewNotebook:
    return NewNotebook(
        name="A notebook",
        description="",
        kernel_type="python3",
        template=None,
        integration=Integration(dataset_binding=binding),
        environment=Environment(),
        cells=list(cells),
    )


def asked(
    _: Notebook, __: KernelLanguage, *, cell_range: CellRange | None = None, **parameters: Any
) -> RunRequest:
    return RunRequest(cell_range, parameters, RunOptions(timeout=60), [], ["tag"])


class Scene:
    """A notebook with runs in a caller's project of its own."""

    def __init__(self, store: EventStore, pool: Pool, notebook_id: UUID, caller: Caller) -> None:
        self.store, self.pool, self.notebook_id, self.caller = store, pool, notebook_id, caller

    async def execute(self, **members: Any) -> UUID:
        run, _, _ = await execute_notebook(
            *(self.store, self.pool, self.caller, self.notebook_id, partial(asked, **members)),
            queue_without_worker=True,
        )
        return run

    async def repeat(self, execution_id: UUID, what: Repetition = RERUN, **more: Any) -> UUID:
        made = await rerun_execution(
            *(self.store, self.pool, self.caller, self.notebook_id, execution_id),
            asked=what,
            executions=EXECUTIONS,
            **more,
        )
        return made.execution_id

    async def cells(self, *cells: Cell) -> None:
        change = NotebookUpdate(NotebookChanges(cells=list(cells)), None)
        await update_notebook(
            self.store, self.caller, self.notebook_id, lambda _: change, Precondition()
        )

    async def run(self, execution_id: UUID) -> Execution:
        loaded = await aggregates.load(self.store, Execution, execution_id)
        assert loaded is not None
        return loaded.aggregate

    @property
    def _scope(self) -> tuple[UUID, UUID, UUID]:
        return self.caller.tenant_id, self.caller.project_id, self.notebook_id

    async def status(self, execution_id: UUID) -> dict[str, Any]:
        view = await execution_status.get(self.pool, *self._scope, execution_id)
        assert view is not None
        told: dict[str, Any] = msgspec.json.decode(view.document)
        assert view.repeated == len(told.get("repetitions", []))
        return told

    async def chain(self, execution_id: UUID) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.json.decode(
            await chains.get(self.pool, *self._scope, execution_id)
        )
        return told

    async def changes(self, execution_id: UUID, against: UUID | None = None) -> dict[str, Any]:
        found = await changes.get(self.store, self.pool, self.notebook_id, execution_id, against)
        told: dict[str, Any] = msgspec.to_builtins(found)
        return told


async def scene_of(store: EventStore, pool: Pool, *, binding: str | None = None) -> Scene:
    caller = msgspec.structs.replace(CALLER, project_id=uuid4())
    notebook_id, _ = await create_notebook(store, caller, new_notebook(*CELLS, binding=binding))
    return Scene(store, pool, notebook_id, caller)


Causes = dict[UUID, tuple[str, UUID] | None]


async def live(scene: Scene, dice: random.Random) -> Causes:
    """A random history of runs; returns what each repeats."""
    causes: Causes = {}
    for number in range(25):
        before = dice.choice(list(causes)) if causes and dice.random() < 0.8 else None
        if before is None:
            # What PostgreSQL cannot take apart, and what looks like a cause and is none.
            like = {"cause": {"kind": "rerun", "executionId": str(next(iter(causes), uuid4()))}}
            run, cause = await scene.execute(nul="\x00", like=like), None
        else:
            failed = (await scene.run(before)).status == "Error"
            what = dice.choice([RERUN, REPAIR]) if failed else RERUN
            run, cause = await scene.repeat(before, what), (what.kind, before)
        causes[run] = cause
        # The last one may go on.
        if number < 24 or dice.random() < 0.5:
            failing, lost = dice.choice([None, "a", "d"]), dice.choice([0, 0, 2])
            await end(scene.store, run, failing=failing, lost=lost)
        if dice.random() < 0.2:
            await catch_up(scene.pool, execution_status.NAME)
    return causes


async def assert_linked(scene: Scene, causes: Causes) -> None:
    for run, cause in causes.items():
        status = await scene.status(run)
        told = {"kind": "request"}
        if cause is not None:
            told = {"kind": cause[0], "executionId": str(cause[1])}
        assert status["cause"] == told
        expected = [
            {"executionId": str(each), "kind": of[0]}
            for each, of in causes.items()
            if of is not None and of[1] == run
        ]
        assert status.get("repetitions", []) == expected


async def assert_chained(scene: Scene, causes: Causes) -> None:
    for root in (run for run, cause in causes.items() if cause is None):
        members = [root]
        for run, cause in causes.items():
            if cause is not None and cause[1] in members:
                members.append(run)
        found = [await scene.chain(member) for member in members]
        assert all(each == found[0] for each in found)
        assert (found[0]["firstExecutionId"], found[0]["complete"]) == (str(root), True)
        listed = found[0]["executions"]
        assert [each["executionId"] for each in listed] == [str(each) for each in members]
        for each in listed:
            own = await scene.status(UUID(each["executionId"]))
            own.setdefault("repetitions", [])
            assert each == {name: own[name] for name in each}
            assert len(each["attemptHistory"]) == each["attempts"]


@pytest.mark.guarantee("G35")
@pytest.mark.parametrize("seed", range(3))
async def test_links_lead_both_ways_and_chains_are_whole(
    store: EventStore, pool: Pool, seed: int
) -> None:
    scene = await scene_of(store, pool)
    causes = await live(scene, random.Random(seed))
    for _ in ("as far as the projector is", "and all of it"):
        await assert_linked(scene, causes)
        await assert_chained(scene, causes)
        await catch_up(pool, execution_status.NAME)


async def test_a_rerun_is_as_the_run_was(store: EventStore, pool: Pool) -> None:
    scene = await scene_of(store, pool)
    some = CellRange("b", "d")
    first = await scene.execute(cell_range=some, n=1)
    with pytest.raises(ExecutionRunningError):
        await scene.repeat(first)
    await end(store, first, failing="c")
    await scene.cells(*CELLS[:3])
    same = await scene.run(await scene.repeat(first))
    before = await scene.run(first)
    for name in ("notebook_stream_version", "notebook_version", "cells", "cell_range"):
        assert getattr(same, name) == getattr(before, name)
    assert (same.parameters, same.options, same.tags) == ({"n": 1}, before.options, ["tag"])
    # The newest version lacks the cell that the range ends with.
    with pytest.raises(InvalidInputError) as refused:
        await scene.repeat(first, REPAIR)
    assert refused.value.faults[0].pointer == "/version"
    assert "'d'" in refused.value.faults[0].reason

    await scene.cells(*CELLS, Cell(cell_id="e", cell_type="code", source="5"))
    repair = await scene.run(await scene.repeat(first, REPAIR))
    assert repair.notebook_version == "1.2.0"
    assert [each.cell_id for each in repair.cells] == ["b", "c", "d"]
    part = msgspec.structs.replace(REPAIR, cells="fromFailed")
    run = await scene.run(await scene.repeat(first, part))
    assert run.cell_range == CellRange("c", "d")
    assert run.warnings == [
        "/cells: the run begins with 'c' in a fresh kernel, without what the cells before it set"
    ]
    whole = await scene.execute()
    await end(store, whole, failing="b")
    run = await scene.run(await scene.repeat(whole, part))
    assert run.cell_range == CellRange("b", "e")
    await end(store, run.id)
    with pytest.raises(NothingToRepairError):
        await scene.repeat(run.id, REPAIR)
    for project in (scene.caller, CALLER):
        other = Scene(store, pool, uuid4(), project)
        with pytest.raises(ExecutionNotFoundError):
            await other.repeat(first)


async def test_with_an_id_of_its_own_a_rerun_may_be_asked_for_again(
    store: EventStore, pool: Pool
) -> None:
    scene = await scene_of(store, pool)
    first = await scene.execute()
    await end(store, first, failing="a")
    new_id = uuid4()
    made = await asyncio.gather(*(scene.repeat(first, new_execution_id=new_id) for _ in range(3)))
    assert set(made) == {new_id}
    assert len((await scene.status(first))["repetitions"]) == 1


async def test_of_a_long_chain_the_first_thousand_are_told(store: EventStore, pool: Pool) -> None:
    scene = await scene_of(store, pool)
    first = await scene.execute()
    await end(store, first)
    run = await scene.repeat(first)
    await catch_up(pool, execution_status.NAME)
    async with acquire(pool) as connection:
        # Each repeats the one before it.
        await connection.execute(
            """
            INSERT INTO execution_status
            SELECT copied.* FROM execution_status AS s
            CROSS JOIN generate_series(1, 1200) AS number
            CROSS JOIN LATERAL jsonb_populate_record(s, jsonb_build_object(
                'execution_id', md5(number::text)::uuid,
                'repeats', CASE number WHEN 1 THEN $1 ELSE md5((number - 1)::text)::uuid END,
                'requested_position', s.requested_position + number
            )) AS copied
            WHERE s.execution_id = $1
            """,
            run,
        )
    told = await scene.chain(run)
    assert (len(told["executions"]), told["complete"]) == (1000, False)
    assert told["firstExecutionId"] == str(first)
    last = UUID(hashlib.md5(b"1200").hexdigest())  # noqa: S324 (an id, as the statement makes it)
    assert (await scene.chain(last))["firstExecutionId"] == str(first)


async def test_the_migration_rewrites_no_status(store: EventStore, pool: Pool) -> None:
    """Another one has all statuses folded anew, however many there are."""
    scene = await scene_of(store, pool)
    await end(store, await scene.execute())
    await catch_up(pool, execution_status.NAME)
    query = "SELECT xmin::text, ctid::text FROM execution_status"
    async with acquire(pool) as connection:
        await connection.execute(
            "ALTER TABLE execution_status DROP repeats, DROP repeats_as, DROP succeeded"
        )
        rows = await connection.fetch(query)
        await connection.execute(MIGRATION.read_text())
        assert await connection.fetch(query) == rows
    assert len(rows) == 1


async def test_changes_are_against_the_last_success_of_the_same_cells(
    store: EventStore, pool: Pool
) -> None:
    scene = await scene_of(store, pool)
    some = CellRange("a", "a")
    first = await scene.execute(n=1)
    none = await scene.changes(first)
    assert none == {
        "executionId": str(first),
        "basis": "lastSuccess",
        "against": None,
        "changes": None,
    }
    await end(store, first, packages=["polars==1.0"])
    part = await scene.execute(cell_range=some, n=5)
    await end(store, part)
    await scene.cells(*CELLS[:3])
    second = await scene.execute(n=2)
    for _ in ("as far as the projector is", "and all of it"):
        told = await scene.changes(second)
        assert told["against"]["executionId"] == str(first)
        assert told["changes"]["differs"] == ["notebook", "parameters"]
        assert told["changes"]["unknown"] == ["environment", "kernel"]
        assert told["changes"]["notebook"]["cells"]["removed"] == ["d"]
        # Nothing succeeded before of these cells alone.
        assert (await scene.changes(part))["against"]["executionId"] == str(first)
        assert (await scene.changes(first))["against"] is None
        asked_for = await scene.changes(first, second)
        assert (asked_for["basis"], asked_for["against"]["executionId"]) == ("asked", str(second))
        await catch_up(pool, execution_status.NAME)
    await end(store, second, failing="b", packages=["polars==1.1"], language_version="3.13")
    told = (await scene.changes(second))["changes"]
    assert told["differs"] == ["notebook", "parameters", "environment", "kernel"]
    assert told["unknown"] == []
