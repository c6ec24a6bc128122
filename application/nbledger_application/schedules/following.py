"""What the scheduler follows the events for: schedules as notebooks say, its rows as events say.

A process manager: it reads events and appends events, and every step may be repeated.
"""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from nbledger_application.following import Interests
from nbledger_application.schedules.folding import NOTED, READ, ScheduleRows
from nbledger_application.schedules.settling import settle
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.actors import SCHEDULER
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, RecordedEvent

NAME: Final = "scheduler"
"""Under this name the scheduler keeps its checkpoint."""

SETTLED_AT_ONCE: Final = 16

_CONFIGURED: Final = (Notebook.Created.TYPE, Notebook.IntegrationConfigured.TYPE)

# The notebooks themselves stay where they are: it is enough to know that one names a schedule.
INTERESTS: Final = Interests(
    read=READ,
    noted=(*NOTED, Notebook.IntegrationConfigured.TYPE),
    marked=(Notebook.Created.TYPE,),
    mark='"scheduleExecution":',
)


class ScheduleFollower:
    """What becomes of the events that concern the scheduler."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def prepare(self, batch: Sequence[RecordedEvent]) -> None:
        """Let the schedules of notebooks be as the notebooks say."""
        last: dict[UUID, RecordedEvent] = {
            each.subject_id: each for each in batch if each.type in _CONFIGURED
        }
        slots = asyncio.Semaphore(SETTLED_AT_ONCE)

        async def one(recorded: RecordedEvent) -> None:
            async with slots:
                await settle(
                    self._store,
                    recorded.subject_id,
                    Metadata(
                        actor=SCHEDULER,
                        correlation_id=recorded.metadata.correlation_id,
                        causation_id=str(recorded.event_id),
                        traceparent=recorded.metadata.traceparent,
                        on_behalf_of=recorded.metadata.responsible,
                    ),
                )

        await asyncio.gather(*(one(recorded) for recorded in last.values()))

    async def fold(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Bring the scheduler's rows up to date."""
        of_schedules = [each for each in batch if each.type not in _CONFIGURED]
        if not of_schedules:
            return
        rows = ScheduleRows()
        await rows.load(connection, of_schedules)
        for recorded in of_schedules:
            rows.apply(recorded)
        await rows.save(connection)
