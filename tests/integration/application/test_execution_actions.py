"""What is done to many executions is done to each once, whatever comes in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from support.actions import (
    CALLER,
    SETTINGS,
    a_notebook,
    asked_to_stop,
    carry_out,
    ends,
    reruns,
    waiting_runs,
)
from support.event_store import open_store
from support.schedules import end_runs
from support.waiting_runs import fill

from nbledger_application import repository
from nbledger_application.actions import cancelling, manager, rerunning, targets
from nbledger_application.actions.manager import ActionsManager
from nbledger_application.commands.act_on_executions import cancel_action, request_action
from nbledger_application.commands.cancel_execution import cancel_execution
from nbledger_domain.errors import ActionEndedError, ActionNotFoundError
from nbledger_domain.execution import Execution
from nbledger_domain.execution_action import ActionKind, ExecutionAction, PassedOver, rerun_id_of
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.postgres.checkpoints import checkpoint
from nbledger_infrastructure.postgres.database import DatabaseUnavailableError, Pool, acquire
from nbledger_infrastructure.postgres.event_store import AppendResult, EventStore
from nbledger_infrastructure.settings import Queue
from nbledger_projections.read_models import execution_actions

PLACE = (CALLER.tenant_id, CALLER.project_id)


async def found(pool: Pool, action_id: UUID) -> execution_actions.ActionDocument:
    view = await execution_actions.get(pool, *PLACE, action_id)
    assert view is not None
    return msgspec.json.decode(view.document, type=execution_actions.ActionDocument)


def reasons(document: execution_actions.ActionDocument) -> dict[UUID, str]:
    return {each.execution_id: f"{each.outcome} {each.reason}" for each in document.passed_over}


async def claim(store: EventStore, execution_id: UUID) -> None:
    await repository.update(
        store,
        Execution,
        execution_id,
        lambda execution: execution.claim("w", at=clock.now()),
        CALLER.metadata(),
    )


async def test_cancelling_many(pool: Pool, store: EventStore) -> None:
    notebook = await a_notebook(store)
    waiting = await waiting_runs(store, notebook, 5)
    running, ended, already = await waiting_runs(store, notebook, 3)
    await claim(store, running)
    await end_runs(store, [ended])
    await claim(store, already)
    await cancel_execution(store, CALLER, notebook, already)
    unknown = uuid4()
    action_id = await request_action(
        store, CALLER, "cancel", [*waiting, running, ended, already, unknown, notebook, running]
    )
    before = await found(pool, action_id)
    assert (before.status, before.total, before.done) == ("Running", 10, 0)
    await carry_out(pool, store)
    document = await found(pool, action_id)
    assert (document.status, document.done, document.skipped, document.failed) == (
        *("Completed", 6, 4),
        0,
    )
    assert reasons(document) == {
        ended: "skipped execution_ended",
        already: "skipped already_cancelled",
        unknown: "skipped execution_not_found",
        notebook: "skipped execution_not_found",
    }
    assert await ends(store, waiting) == Counter(cancelled=5)
    loaded = await load(store, Execution, running)
    assert loaded is not None
    assert loaded.aggregate.cancel_reason is not None
    assert await asked_to_stop(pool) == Counter([*waiting, running, already])
    told = (await store.read_stream(running))[-1].metadata
    assert (told.actor, told.on_behalf_of) == ("execution-actions", "ann")
    assert told.correlation_id == str(action_id)


async def test_a_request_with_the_id_of_an_action_is_not_the_action(
    pool: Pool, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = await a_notebook(store)
    before, meanwhile = await waiting_runs(store, notebook, 2)
    await claim(store, before)
    await claim(store, meanwhile)
    action_id = await request_action(store, CALLER, "cancel", [before, meanwhile])
    client = msgspec.structs.replace(CALLER, request_id=str(action_id))
    await cancel_execution(store, client, notebook, before)
    read = store.read_streams

    async def then_cancelled(*arguments: Any) -> Any:
        histories = await read(*arguments)
        await cancel_execution(store, client, notebook, meanwhile)
        return histories

    monkeypatch.setattr(store, "read_streams", then_cancelled)
    await carry_out(pool, store)
    document = await found(pool, action_id)
    assert (document.done, document.skipped) == (0, 2)
    assert set(reasons(document).values()) == {"skipped already_cancelled"}


@pytest.mark.guarantee("G33")
async def test_what_the_filter_finds_no_more_is_left_alone(pool: Pool, store: EventStore) -> None:
    """Whoever cancels what waits does not mean what has begun to run meanwhile."""
    notebook = await a_notebook(store)
    waiting = await waiting_runs(store, notebook, 3, tags=["x"])
    wanted = "phase = Queued AND tag:x"
    action_id = await request_action(store, CALLER, "cancel", waiting, wanted=wanted)
    await claim(store, waiting[1])
    await carry_out(pool, store)
    document = await found(pool, action_id)
    assert (document.done, document.filter) == (2, wanted)
    assert reasons(document) == {waiting[1]: "skipped no_longer_matches"}
    assert await ends(store, waiting) == Counter(cancelled=2, Starting=1)


async def test_rerunning_many(pool: Pool, store: EventStore) -> None:
    notebook = await a_notebook(store)
    *ended, running = await waiting_runs(store, notebook, 4, tags=["x"])
    await end_runs(store, ended, failed=True)
    action_id = await request_action(store, CALLER, "rerun", [*ended, running])
    await carry_out(pool, store)
    document = await found(pool, action_id)
    assert (document.status, document.done) == ("Completed", 3)
    assert reasons(document) == {running: "skipped execution_running"}
    for execution_id in ended:
        loaded = await load(store, Execution, rerun_id_of(action_id, execution_id))
        assert loaded is not None
        run = loaded.aggregate
        assert (run.cause.kind, run.cause.execution_id) == ("rerun", execution_id)
        assert (run.requested_by, run.tags, run.phase) == ("ann", ["x"], "Queued")


async def test_what_cannot_be_rerun_is_told(pool: Pool, store: EventStore) -> None:
    notebook = await a_notebook(store)
    ended = await waiting_runs(store, notebook, 2)
    await end_runs(store, ended)
    await waiting_runs(store, notebook, 2)
    action_id = await request_action(store, CALLER, "rerun", ended)
    full = msgspec.structs.replace(SETTINGS, queue=Queue(max_waiting_per_project=3))
    await carry_out(pool, store, full)
    document = await found(pool, action_id)
    assert (document.done, document.failed) == (1, 1)
    (told,) = document.passed_over
    assert (told.outcome, told.reason) == ("failed", "queue_full")
    assert "maxWaitingPerProject" in (told.detail or "")


async def test_an_action_can_be_cancelled(
    pool: Pool, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "AT_ONCE", 2)
    waiting = await waiting_runs(store, await a_notebook(store), 6)
    action_id = await request_action(store, CALLER, "cancel", waiting)
    carrying_out = ActionsManager(pool, store, SETTINGS)
    assert await carrying_out.tick() == 0
    await cancel_action(store, CALLER, action_id)
    await cancel_action(store, CALLER, action_id)
    while await carrying_out.tick() is not None:
        pass
    document = await found(pool, action_id)
    assert (document.status, document.cancel_requested) == ("Cancelled", True)
    # What was under way when it was asked for is told as well.
    assert document.done == 4
    assert await ends(store, waiting) == Counter(cancelled=4, Queued=2)
    with pytest.raises(ActionEndedError):
        await cancel_action(store, CALLER, action_id)
    with pytest.raises(ActionNotFoundError):
        await cancel_action(store, CALLER, waiting[0])


class _KilledError(BaseException):
    """The process ends here."""


def _end_behind(store: EventStore, lasting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    append, left = store.append, lasting

    async def counted(*arguments: Any, **others: Any) -> AppendResult:
        nonlocal left
        result = await append(*arguments, **others)
        left -= 1
        if left <= 0:
            raise _KilledError
        return result

    monkeypatch.setattr(store, "append", counted)


@pytest.mark.guarantee("G33")
async def test_each_is_dealt_with_once_wherever_a_manager_ends(
    pool: Pool, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "AT_ONCE", 4)
    monkeypatch.setattr(rerunning, "AT_ONCE", 4)
    notebook = await a_notebook(store)
    waiting = await waiting_runs(store, notebook, 10)
    ended = await waiting_runs(store, notebook, 10)
    await end_runs(store, ended)
    first = await request_action(store, CALLER, "cancel", waiting)
    second = await request_action(store, CALLER, "rerun", ended)
    # Each manager ends right behind an append that lasts, and of which it is told nothing.
    for lasting in (1, 2, 3, 5, 2, 1, 4, 100):
        async with open_store(pool) as own:
            _end_behind(own, lasting, monkeypatch)
            with suppress(_KilledError):
                await carry_out(pool, own)
    assert await asked_to_stop(pool) == Counter(waiting)
    assert await reruns(pool) == Counter(ended)
    for action_id in (first, second):
        document = await found(pool, action_id)
        assert (document.status, document.done, document.passed_over) == ("Completed", 10, [])
        events = [each.type for each in await store.read_stream(action_id)]
        assert events.count(ExecutionAction.Ended.TYPE) == 1


@pytest.mark.parametrize("action", ["cancel", "rerun"])
async def test_nothing_goes_on_by_itself_behind_a_failure(
    pool: Pool, store: EventStore, monkeypatch: pytest.MonkeyPatch, action: ActionKind
) -> None:
    several = await waiting_runs(store, await a_notebook(store), 4)
    if action == "rerun":
        await end_runs(store, several)
    action_id = await request_action(store, CALLER, action, several)
    append, begun, over = store.append, 0, 0

    async def first_fails(*arguments: Any, **others: Any) -> AppendResult:
        nonlocal begun, over
        begun += 1
        if begun == 1:
            raise DatabaseUnavailableError
        try:
            return await append(*arguments, **others)
        finally:
            over += 1

    with monkeypatch.context() as patched:
        patched.setattr(store, "append", first_fails)
        with pytest.raises(DatabaseUnavailableError):
            await carry_out(pool, store)
        assert over == begun - 1 >= 3
    await carry_out(pool, store)
    assert (await found(pool, action_id)).done == 4


@pytest.mark.guarantee("G33")
async def test_two_managers_at_once_do_nothing_twice(pool: Pool, store: EventStore) -> None:
    waiting = await waiting_runs(store, await a_notebook(store), 20)
    action_id = await request_action(store, CALLER, "cancel", waiting)
    await asyncio.gather(*(carry_out(pool, store) for _ in range(3)))
    assert await asked_to_stop(pool) == Counter(waiting)
    document = await found(pool, action_id)
    assert (document.done, document.skipped) == (20, 0)


async def test_who_takes_over_looks_only_at_what_may_not_have_ended(
    pool: Pool, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "KEPT_UNSAVED", 1)
    notebook = await a_notebook(store)
    asked: list[UUID] = []
    for _ in range(3):
        (run,) = await waiting_runs(store, notebook, 1)
        asked.append(await request_action(store, CALLER, "cancel", [run]))
    carried = ActionsManager(pool, store, SETTINGS)
    await carried.tick()
    # One that is held up is not passed, whatever ends after it.
    (run,) = await waiting_runs(store, notebook, 1)
    held = await request_action(store, CALLER, "cancel", [run])
    at = await store.head_position()
    (run,) = await waiting_runs(store, notebook, 1)
    later = await request_action(store, CALLER, "cancel", [run])
    deal = ActionsManager._deal

    async def stuck(
        self: ActionsManager, loaded: Any, some: Sequence[UUID]
    ) -> Sequence[PassedOver | None]:
        if loaded.aggregate.id == held:
            raise RuntimeError
        return await deal(self, loaded, some)

    monkeypatch.setattr(ActionsManager, "_deal", stuck)
    while await carried.tick() is not None:
        pass
    assert (await found(pool, later)).status == "Completed"
    assert at - 3 < await checkpoint(pool, manager.NAME) < at
    monkeypatch.undo()
    fresh = ActionsManager(pool, store, SETTINGS)
    await fresh._find()
    assert set(fresh._open) == {held}
    while await fresh.tick() is not None:
        pass
    assert (await found(pool, held)).status == "Completed"


async def test_what_is_looked_up_is_few_of_all_events(pool: Pool, store: EventStore) -> None:
    """Whatever the planner knows of the table: before its first statistics, and with them."""
    await fill(pool, 5_000)
    waiting = await waiting_runs(store, await a_notebook(store), 3)
    many = [*waiting, *(uuid4() for _ in range(cancelling.AT_ONCE))]
    asked = [
        (targets._FIND, (many, "x", targets._ENDED, targets._CANCELLED, targets._REQUESTED)),
        (manager._NEW, (0,)),
    ]
    async with acquire(pool) as connection:
        for prepare in ("SELECT", "ANALYZE event"):
            await connection.execute(prepare)
            for statement, arguments in asked:
                rows = await connection.fetch(f"EXPLAIN (ANALYZE) {statement}", *arguments)
                plan = "\n".join(row[0] for row in rows)
                assert "Seq Scan on event" not in plan, plan
