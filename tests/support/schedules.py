"""Schedules in tests: notebooks that have one, a clock to set, and what became of firings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.create_notebook import NewNotebook, create_notebook
from nbledger_application.commands.update_notebook import NotebookUpdate, update_notebook
from nbledger_application.preconditions import Precondition
from nbledger_application.schedules.scheduler import Scheduler
from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution, Resources, TerminationCode
from nbledger_domain.notebook import Environment, Integration, NotebookChanges
from nbledger_domain.schedule import ScheduleSettings
from nbledger_infrastructure import clock
from nbledger_infrastructure.postgres.database import Pool, PooledConnection
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Executions as Limits

CALLER = Caller("ann", frozenset({Role.EDITOR}), uuid4(), uuid4(), "request-1")
MINUTE = timedelta(minutes=1)
_METADATA = Metadata(actor="test")


class SetClock:
    """A clock that tests set; it begins with the next whole minute, so that none is under way."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC).replace(second=0, microsecond=0) + MINUTE

    async def __call__(self, _: PooledConnection) -> datetime:
        return self.time

    def step(self, minutes: float) -> None:
        self.time += timedelta(minutes=minutes)


def scheduler(pool: Pool, store: EventStore, now: Any) -> Scheduler:
    return Scheduler(pool, store, Limits(), now=now)


async def scheduled(
    store: EventStore, value: str | ScheduleSettings | None, *, cells: int = 1
) -> UUID:
    """A notebook with this schedule."""
    made, _ = await create_notebook(
        store,
        CALLER,
        NewNotebook(
            name="N",
            description="",
            kernel_type="python3",
            template=None,
            integration=Integration(schedule_execution=value),
            environment=Environment(),
            cells=[
                Cell(cell_id=f"c{number}", cell_type="code", source="1") for number in range(cells)
            ],
        ),
    )
    return made


async def reschedule(
    store: EventStore, notebook_id: UUID, value: str | ScheduleSettings | None
) -> None:
    changes = NotebookChanges(integration=Integration(schedule_execution=value))
    await update_notebook(
        store, CALLER, notebook_id, lambda _: NotebookUpdate(changes, None), Precondition()
    )


class Told(msgspec.Struct, frozen=True):
    """An event of a firing."""

    firing_id: UUID
    what: str
    data: dict[str, Any]

    @property
    def due(self) -> datetime:
        return datetime.fromisoformat(self.data["dueAt"])


async def told(store: EventStore, notebook_id: UUID) -> list[Told]:
    """Every event of the notebook's firings, in order: ``started``, ``skipped overlap``, …"""
    found: list[Told] = []
    for recorded in await store.read_subject(notebook_id):
        if recorded.type.startswith("firing.") and recorded.data is not None:
            data = msgspec.json.decode(recorded.data)
            what = recorded.type.split(".")[1]
            reason = f" {data['reason']}" if "reason" in data else ""
            found.append(Told(recorded.stream_id, what + reason, data))
    return found


async def outcomes(store: EventStore, notebook_id: UUID) -> list[str]:
    return [each.what for each in await told(store, notebook_id)]


async def requested(store: EventStore, notebook_id: UUID) -> list[UUID]:
    """The executions of the notebook, in the order in which they were asked for."""
    return [
        recorded.stream_id
        for recorded in await store.read_subject(notebook_id)
        if recorded.type == Execution.Requested.TYPE
    ]


async def end_runs(store: EventStore, executions: Sequence[UUID], *, failed: bool = False) -> None:
    """Let these runs end, well or not."""

    def end(execution: Execution) -> None:
        at = clock.now()
        epoch = execution.claim("w", at=at)
        if failed:
            code = TerminationCode.CELL_ERROR
            execution.fail(epoch, code, detail="", resources=Resources(), at=at)
        else:
            execution.start(epoch, language="python", language_version="3", at=at)
            execution.complete(epoch, resources=Resources(), at=at)

    for execution_id in executions:
        await repository.update(store, Execution, execution_id, end, _METADATA)
