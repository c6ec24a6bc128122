"""Notices in tests: runs that take as long as is said, and what was told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from support.schedules import CALLER

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.notices.manager import NoticeManager
from nbledger_domain.execution import (
    Cause,
    CellRange,
    Execution,
    PlannedCell,
    Resources,
    RunOptions,
    TerminationCode,
)
from nbledger_domain.schedule import schedule_id_of
from nbledger_infrastructure import clock
from nbledger_infrastructure.postgres.checkpoints import CheckpointMovedError
from nbledger_infrastructure.postgres.database import Pool, PooledConnection
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream
from nbledger_infrastructure.settings import Notices

AS_TESTER = Metadata(actor="test")


class Ahead:
    """A clock that stands still unless the test sets it ahead: no run began before it says."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    async def __call__(self, _: PooledConnection) -> datetime:
        return self.time

    def step(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def manager(pool: Pool, store: EventStore, now: Ahead, **settings: Any) -> NoticeManager:
    """One that looks at each tick."""
    return NoticeManager(pool, store, Notices(**settings), now=now, look_seconds=0)


async def tick(manager: NoticeManager) -> None:
    """Let it look; where another one was at work meanwhile it begins anew, as it does at work."""
    try:
        await manager.tick()
    except CheckpointMovedError:
        await manager.tick()


class Runs:
    """Runs of a notebook, whose times are as the test says."""

    def __init__(
        self,
        store: EventStore,
        notebook_id: UUID,
        *,
        caller: Caller = CALLER,
        kernel_type: str = "python3",
    ) -> None:
        self._store = store
        self.notebook_id = notebook_id
        self._caller = caller
        self._kernel_type = kernel_type

    async def ask(
        self,
        *,
        cells: str | None = None,
        scheduled: bool = False,
        cause: Cause | None = None,
    ) -> UUID:
        """A run that waits: of all cells, or from one to another (``a..b``)."""
        start, _, end = (cells or "").partition("..")
        execution = Execution.request(
            uuid4(),
            notebook_id=self.notebook_id,
            notebook_version="1.0.0",
            notebook_stream_version=1,
            kernel_type=self._kernel_type,
            cells=[PlannedCell("c0", "code")],
            cell_range=CellRange(start, end) if cells else None,
            parameters={"text": "a\x00b"},
            options=RunOptions(timeout=60.0),
            requested_by="ann",
            at=clock.now(),
            cause=(
                Cause(kind="schedule", schedule_id=schedule_id_of(self.notebook_id))
                if scheduled
                else cause
            ),
        )
        stream = Stream(
            execution.id, self.notebook_id, self._caller.tenant_id, self._caller.project_id
        )
        await repository.save(self._store, execution, stream, AS_TESTER)
        return execution.id

    async def begin(self, *, cells: str | None = None, scheduled: bool = False) -> UUID:
        """A run that a worker has."""
        execution_id = await self.ask(cells=cells, scheduled=scheduled)
        await self.claim(execution_id)
        return execution_id

    async def claim(self, execution_id: UUID) -> None:
        await self._change(execution_id, lambda run: run.claim("w", at=clock.now()))

    async def lose(self, execution_id: UUID) -> None:
        """Let the attempt of a worker be lost; the run waits again."""

        def change(run: Execution) -> None:
            run.lose_attempt(run.epoch, "the worker is lost", at=clock.now())

        await self._change(execution_id, change)

    async def end(
        self, execution_id: UUID, *, after: float = 0.0, code: TerminationCode | None = None
    ) -> None:
        """Let a run that a worker has end so many seconds later, well or with this code."""

        def change(run: Execution) -> None:
            at = clock.now() + timedelta(seconds=after)
            if code is None:
                run.start(run.epoch, language="python", language_version="3", at=at)
                run.complete(run.epoch, resources=Resources(), at=at)
            else:
                run.fail(run.epoch, code, detail="", resources=Resources(), at=at)

        await self._change(execution_id, change)

    async def completed(self, *seconds: float, cells: str | None = None) -> None:
        """Runs that took so long, one after the other."""
        for each in seconds:
            await self.end(await self.begin(cells=cells), after=each)

    async def failed(self, *, scheduled: bool = True) -> UUID:
        """A run, of the schedule of the notebook, that has failed."""
        execution_id = await self.begin(scheduled=scheduled)
        await self.end(execution_id, code=TerminationCode.CELL_ERROR)
        return execution_id

    async def succeeded(self) -> None:
        """A run of the schedule of the notebook that has completed."""
        await self.end(await self.begin(scheduled=True))

    async def cancel(self, execution_id: UUID) -> None:
        await self._change(
            execution_id, lambda run: run.request_cancel(requested_by="ann", at=clock.now())
        )

    async def _change(self, execution_id: UUID, change: Callable[[Execution], Any]) -> None:
        await repository.update(self._store, Execution, execution_id, change, AS_TESTER)


async def told(store: EventStore, subject_id: UUID) -> list[tuple[str, dict[str, Any]]]:
    """The notices of a subject in the order in which they were told, without their prefix."""
    return [
        (
            recorded.type.removeprefix("notice.").removesuffix(".v1"),
            msgspec.json.decode(recorded.data or b"{}"),
        )
        for recorded in await store.read_subject(subject_id)
        if recorded.type.startswith("notice.")
    ]
