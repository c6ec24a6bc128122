"""Following the events: what the scheduler keeps is as they say, and schedules as notebooks say.

A process manager: it reads events and appends events, and every step may be repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

from nbledger_application.schedules.folding import NOTED, READ, ScheduleRows, stored
from nbledger_application.schedules.settling import settle
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, RecordedEvent
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

NAME: Final = "scheduler"
"""Under this name the scheduler keeps its checkpoint."""

ACTOR: Final = "scheduler"

BATCH_EVENTS: Final = 2000
SETTLED_AT_ONCE: Final = 16
KEPT_UNSAVED: Final = 5000
"""Of so many events that concern no schedule the place is kept in memory alone."""

_CONFIGURED: Final = (Notebook.Created.TYPE, Notebook.IntegrationConfigured.TYPE)

_SHOWN: Final = COLUMNS.replace(" data,", " CASE WHEN type = ANY($3) THEN data END AS data,")

# The notebooks themselves stay where they are: it is enough to know that one names a schedule. The
# last event comes along whatever it is, as it says how far this goes.
_READ: Final = f"""
SELECT {_SHOWN} FROM (
    SELECT *, max(position) OVER () AS through
    FROM (SELECT * FROM event WHERE position > $1 ORDER BY position LIMIT $2) AS next
) AS told
WHERE type = ANY($3) OR type = ANY($4)
    OR (type = ANY($5) AND data::text LIKE '%"scheduleExecution":%')
    OR position = through
ORDER BY position
"""  # noqa: S608 (constants)


class Following:
    """How far the scheduler has read."""

    def __init__(
        self, pool: Pool, store: EventStore, holds: Callable[[], Awaitable[Any]] | None
    ) -> None:
        self._holds = holds
        self._pool = pool
        self._store = store
        self._saved: Checkpoint | None = None
        self._position = 0
        configured = Notebook.IntegrationConfigured.TYPE
        self._types = (
            stored(READ),
            stored((*NOTED, configured)),
            stored((Notebook.Created.TYPE,)),
        )
        self._concern = {*READ, *NOTED, *_CONFIGURED}

    async def catch_up(self) -> None:
        """Read on to the last event there is.

        Raises ``DatabaseUnavailableError``, and ``CheckpointMovedError`` where another scheduler
        is at work: this one then begins anew at the next call.
        """
        try:
            while await self._advance():
                pass
        except BaseException:
            self._saved = None
            raise

    async def _advance(self) -> bool:
        """Take the next events; returns whether there may be more."""
        if self._holds is not None:
            await self._holds()
        async with acquire(self._pool) as connection:
            if self._saved is None:
                self._saved = await checkpoints.ensure(connection, NAME)
                self._position = self._saved.position
            rows = await connection.fetch(_READ, self._position, BATCH_EVENTS, *self._types)
        if not rows:
            return False
        position: int = rows[-1]["position"]
        batch = [each for each in map(recorded_event, rows) if each.type in self._concern]
        await self._settle([each for each in batch if each.type in _CONFIGURED])
        if batch or position - self._saved.position >= KEPT_UNSAVED:
            await self._fold([each for each in batch if each.type not in _CONFIGURED], position)
        more = position - self._position >= BATCH_EVENTS
        self._position = position
        return more or bool(batch)

    async def _settle(self, batch: Sequence[RecordedEvent]) -> None:
        """Let the schedules of these notebooks be as the notebooks say."""
        last: dict[UUID, RecordedEvent] = {each.subject_id: each for each in batch}
        slots = asyncio.Semaphore(SETTLED_AT_ONCE)

        async def one(recorded: RecordedEvent) -> None:
            async with slots:
                await settle(
                    self._store,
                    recorded.subject_id,
                    Metadata(
                        actor=ACTOR,
                        correlation_id=recorded.metadata.correlation_id,
                        causation_id=str(recorded.event_id),
                        traceparent=recorded.metadata.traceparent,
                        on_behalf_of=recorded.metadata.responsible,
                    ),
                )

        await asyncio.gather(*(one(recorded) for recorded in last.values()))

    async def _fold(self, batch: Sequence[RecordedEvent], position: int) -> None:
        assert self._saved is not None  # noqa: S101 (whoever folds has read)
        async with acquire(self._pool) as connection, connection.transaction():
            await checkpoints.lock_at(connection, NAME, self._saved)
            if batch:
                rows = ScheduleRows()
                await rows.load(connection, batch)
                for recorded in batch:
                    rows.apply(recorded)
                await rows.save(connection)
            await checkpoints.move(connection, NAME, position)
        self._saved = Checkpoint(position, self._saved.generation)
