"""The write side by itself: every step of a notebook's life without HTTP, Kafka or a projector."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from nbledger_application import queue
from nbledger_application.caller import Caller, Right
from nbledger_application.claims import claim
from nbledger_application.commands.cancel_execution import cancel_execution
from nbledger_application.commands.create_notebook import NewNotebook, create_notebook
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.commands.execute_notebook import (
    KernelLanguage,
    RunRequest,
    execute_notebook,
)
from nbledger_application.commands.loading import load_notebook
from nbledger_application.commands.update_notebook import NotebookUpdate, update_notebook
from nbledger_application.preconditions import Precondition, Tags
from nbledger_application.recording import Recorder
from nbledger_domain.cells import Cell
from nbledger_domain.errors import (
    KernelUnavailableError,
    NotebookExecutingError,
    NotebookNotFoundError,
    PreconditionFailedError,
)
from nbledger_domain.execution import Resources, RunOptions
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_infrastructure import clock
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.postgres.tokens import Role

CALLER = Caller("ann", frozenset({Role.EDITOR}), uuid4(), uuid4(), "request-1")
STRANGER = msgspec.structs.replace(CALLER, project_id=uuid4())
NEW = NewNotebook(
    name="A notebook",
    description="",
    kernel_type="python3",
    template=None,
    integration=Integration(),
    environment=Environment(),
    cells=[Cell(cell_id="a", cell_type="code", source="1")],
)


ANYTHING = Precondition()


def renamed(name: str, _: Notebook) -> NotebookUpdate:
    return NotebookUpdate(NotebookChanges(name=name), None)


def as_asked(_: Notebook, kernel: KernelLanguage) -> RunRequest:
    assert kernel == KernelLanguage(known=True, language="python")
    return RunRequest(None, {}, RunOptions(timeout=60), [])


async def test_a_notebook_lives_without_anybody_else(store: EventStore, pool: Pool) -> None:
    assert CALLER.may(Right.WRITE)
    assert not CALLER.may(Right.AUDIT)
    notebook_id, _ = await create_notebook(store, CALLER, NEW)
    with pytest.raises(NotebookNotFoundError):
        await load_notebook(store, STRANGER, notebook_id)
    with pytest.raises(PreconditionFailedError):
        await update_notebook(
            store,
            CALLER,
            notebook_id,
            partial(renamed, "lost"),
            Precondition(Tags(versions=frozenset({7}))),
        )
    # Of several at once none is lost, whoever was quicker.
    await asyncio.gather(
        *(
            update_notebook(store, CALLER, notebook_id, partial(renamed, f"n{n}"), ANYTHING)
            for n in range(5)
        )
    )
    loaded = await load_notebook(store, CALLER, notebook_id)
    assert loaded.aggregate.notebook_version == "1.0.5"

    with pytest.raises(KernelUnavailableError):
        await execute_notebook(
            store, pool, CALLER, notebook_id, as_asked, queue_without_worker=False
        )
    runs = [
        (
            await execute_notebook(
                store, pool, CALLER, notebook_id, as_asked, queue_without_worker=True
            )
        )[0]
        for _ in range(3)
    ]
    with pytest.raises(NotebookExecutingError):
        await delete_notebook(store, pool, CALLER, notebook_id, force=False, precondition=ANYTHING)

    await cancel_execution(store, CALLER, notebook_id, runs[0])
    waits = await queue.next_waiting(pool, ["python3"], ["Normal"])
    assert waits is not None
    assert waits.execution_id == runs[1]
    held = await claim(store, waits.command, worker_id="w", kernel_types=["python3"])
    assert held is not None
    recorder = Recorder(store, held, away_seconds=1, on_cancel=lambda: None)
    await recorder.record(
        lambda run: run.start(held.epoch, language="python", language_version="3", at=clock.now())
    )

    # One runs and one waits: the notebook goes with the one that runs.
    assert not await delete_notebook(
        store, pool, CALLER, notebook_id, force=True, precondition=ANYTHING
    )
    with pytest.raises(NotebookNotFoundError):
        await load_notebook(store, CALLER, notebook_id)
    await recorder.record(lambda run: run.cancel(held.epoch, resources=Resources(), at=clock.now()))
    assert await queue.next_waiting(pool, ["python3"], ["Normal"]) is None
    assert await queue.unleased(pool, silent_seconds=0) == []


async def test_a_claim_that_comes_through_while_it_is_made_again_is_found(
    store: EventStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook_id, _ = await create_notebook(store, CALLER, NEW)
    await execute_notebook(store, pool, CALLER, notebook_id, as_asked, queue_without_worker=True)
    waits = await queue.next_waiting(pool, ["python3"], ["Normal"])
    assert waits is not None
    read, earlier = store.read_stream, [True]

    async def read_before_it(stream_id: UUID, **options: Any) -> list[RecordedEvent]:
        history = await read(stream_id, **options)
        if stream_id == waits.execution_id and earlier:
            earlier.clear()
            assert await claim(store, waits.command, worker_id="w", kernel_types=["python3"])
        return history

    monkeypatch.setattr(store, "read_stream", read_before_it)
    held = await claim(store, waits.command, worker_id="w", kernel_types=["python3"], unsure=True)
    assert held is not None
    assert held.epoch == 1
    # What another worker has taken meanwhile is that one's.
    assert (
        await claim(store, waits.command, worker_id="x", kernel_types=["python3"], unsure=True)
        is None
    )
