"""Automatic execution in tests: notebooks that have it, datasets that change, what became of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
from support.schedules import CALLER

from nbledger_application import repository
from nbledger_application.automation.manager import Automation
from nbledger_application.commands.create_notebook import NewNotebook, create_notebook
from nbledger_application.commands.update_notebook import NotebookUpdate, update_notebook
from nbledger_application.preconditions import Precondition
from nbledger_domain.automation import AutoExecution, AutomationSettings
from nbledger_domain.cells import Cell
from nbledger_domain.dataset import Dataset, Source
from nbledger_domain.execution import Execution, Representation
from nbledger_domain.notebook import Environment, Integration, NotebookChanges
from nbledger_infrastructure import clock
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata
from nbledger_infrastructure.settings import Queue, Settings

AT_ONCE = AutomationSettings(quiet_seconds=0)
"""What is changed becomes a run with the next tick."""


def automation(pool: Pool, store: EventStore, now: Any, **queue: int) -> Automation:
    return Automation(pool, store, Settings(queue=Queue(**queue)), now=now)


async def automatic(
    store: EventStore,
    setting: AutoExecution = AT_ONCE,
    *,
    dataset: UUID | None = None,
    cells: int = 1,
    schedule: str | None = None,
) -> UUID:
    """A notebook that runs by itself, bound to this dataset."""
    made, _ = await create_notebook(
        store,
        CALLER,
        NewNotebook(
            name="N",
            description="",
            kernel_type="python3",
            template=None,
            integration=Integration(
                auto_execution=setting,
                dataset_binding=None if dataset is None else str(dataset),
                schedule_execution=schedule,
            ),
            environment=Environment(),
            cells=[_cell(str(number)) for number in range(cells)],
        ),
    )
    return made


async def configure(
    store: EventStore,
    notebook_id: UUID,
    setting: AutoExecution,
    *,
    dataset: UUID | None = None,
) -> None:
    binding = None if dataset is None else str(dataset)
    integration = Integration(auto_execution=setting, dataset_binding=binding)
    await _update(store, notebook_id, NotebookChanges(integration=integration))


async def edit(store: EventStore, notebook_id: UUID, *, cells: int = 1) -> None:
    """Give the notebook other cells."""
    changed = [_cell(f"{uuid4()}") for _ in range(cells)]
    await _update(store, notebook_id, NotebookChanges(cells=changed))


async def _update(store: EventStore, notebook_id: UUID, changes: NotebookChanges) -> None:
    await update_notebook(
        store, CALLER, notebook_id, lambda _: NotebookUpdate(changes, None), Precondition()
    )


def _cell(source: str) -> Cell:
    return Cell(cell_id=f"c{source}", cell_type="code", source=source)


async def add_version(store: EventStore, dataset_id: UUID, *, by: UUID | None = None) -> int:
    """Give the dataset a new version, made by this execution or uploaded; returns its number.

    There may be no such dataset yet.
    """
    source, metadata = Source(kind="upload", file_name="d.csv"), CALLER.metadata()
    if by is not None:
        requested = (await store.read_stream(by, limit=1))[0]
        source = Source(kind="execution", execution_id=by, notebook_id=requested.subject_id)
        metadata = Metadata(
            actor="worker:w",
            correlation_id=requested.metadata.correlation_id,
            causation_id=str(requested.event_id),
        )

    async def once() -> int:
        loaded = await load(store, Dataset, dataset_id)
        if loaded is None:
            dataset = Dataset.create(dataset_id, name="D", at=clock.now())
            stream = CALLER.stream(dataset_id, dataset_id)
        else:
            dataset, stream = loaded.aggregate, loaded.stream
        number = dataset.add_version(
            content=Representation("application/vnd.apache.parquet", "00" * 32, 1),
            rows=1,
            columns=[],
            source=source,
            at=clock.now(),
        )
        await repository.save(store, dataset, stream, metadata)
        return number

    return await repository.until_saved(once)


class Told(msgspec.Struct, frozen=True):
    """An event of a trigger."""

    trigger_id: UUID
    what: str
    data: dict[str, Any]

    @property
    def changes(self) -> int:
        found: int = self.data["changes"]
        return found


async def told(store: EventStore, notebook_id: UUID) -> list[Told]:
    """Every event of the notebook's triggers, in order: ``started``, ``skipped loop``, …"""
    found: list[Told] = []
    for recorded in await store.read_subject(notebook_id):
        if recorded.type.startswith("trigger.") and recorded.data is not None:
            data = msgspec.json.decode(recorded.data)
            reason = f" {data['reason']}" if "reason" in data else ""
            found.append(Told(recorded.stream_id, recorded.type.split(".")[1] + reason, data))
    return found


async def outcomes(store: EventStore, notebook_id: UUID) -> list[str]:
    return [each.what for each in await told(store, notebook_id)]


async def execution(store: EventStore, execution_id: UUID) -> Execution:
    loaded = await load(store, Execution, execution_id)
    assert loaded is not None
    return loaded.aggregate
