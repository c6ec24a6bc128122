"""What automatic execution follows the events for: settings, changes, and what became of them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from nbledger_application.automation.folding import NOTED, READ, AutomationRows
from nbledger_application.concurrently import all_of
from nbledger_application.following import Interests
from nbledger_domain.automation import Trigger
from nbledger_domain.automation.chains import NO_CHAIN, Chain, continued
from nbledger_domain.dataset import Dataset, Source
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Integration, Notebook
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent

NAME: Final = "automation"
"""Under this name automatic execution keeps its checkpoint."""

LOOKED_UP_AT_ONCE: Final = 8

# The cells of notebooks stay where they are, but for those that run by themselves.
INTERESTS: Final = Interests(
    read=READ, noted=NOTED, marked=(Notebook.Created.TYPE,), mark='"autoExecution":'
)

_LookUp = Callable[[RecordedEvent], Awaitable[None]]

_BOUND: Final = "SELECT DISTINCT dataset_id FROM automation WHERE dataset_id = ANY($1)"
_SINCE: Final = "SELECT position FROM automation_since"


class AutomationFollower:
    """What becomes of the events that concern automatic execution."""

    def __init__(self, pool: Pool, store: EventStore) -> None:
        self._pool = pool
        self._store = store
        self._integrations: dict[UUID, Integration] = {}
        self._chains: dict[UUID, Sequence[Chain]] = {}

    async def prepare(self, batch: Sequence[RecordedEvent]) -> None:
        """Look up what the events say less than all of."""
        self._integrations.clear()
        self._chains.clear()
        created = [each for each in batch if each.type == Notebook.Created.TYPE]
        await self._in_turns(self._integration, created)
        await self._in_turns(self._chain, await self._of_bound_datasets(batch))

    async def fold(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Bring the rows up to date."""
        since: int = await connection.fetchval(_SINCE)
        rows = AutomationRows(self._integrations, self._chains, since)
        await rows.load(connection, batch)
        for recorded in batch:
            rows.apply(recorded)
        await rows.save(connection)

    async def _of_bound_datasets(self, batch: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        """New versions of datasets that notebooks are bound to, or may be by this batch."""
        added = [each for each in batch if each.type == Dataset.VersionAdded.TYPE]
        configured = (Notebook.Created.TYPE, Notebook.IntegrationConfigured.TYPE)
        if not added or any(each.type in configured for each in batch):
            return added
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_BOUND, list({each.stream_id for each in added}))
        bound = {row[0] for row in rows}
        return [each for each in added if each.stream_id in bound]

    async def _in_turns(self, look_up: _LookUp, events: Sequence[RecordedEvent]) -> None:
        for start in range(0, len(events), LOOKED_UP_AT_ONCE):
            await all_of(look_up(each) for each in events[start : start + LOOKED_UP_AT_ONCE])

    async def _integration(self, recorded: RecordedEvent) -> None:
        loaded = await aggregates.load(
            self._store, Notebook, recorded.stream_id, up_to_version=recorded.version
        )
        if loaded is not None:
            self._integrations[recorded.event_id] = loaded.aggregate.integration

    async def _chain(self, recorded: RecordedEvent) -> None:
        event = decode(recorded)
        if isinstance(event, Dataset.VersionAdded):
            self._chains[recorded.event_id] = await self._chains_of(event.source)

    async def _chains_of(self, source: Source) -> Sequence[Chain]:
        """The notebooks whose runs led to a version: none, where it was uploaded."""
        if source.execution_id is None or source.notebook_id is None:
            return NO_CHAIN
        requested = await self._first(source.execution_id)
        before: Sequence[Chain] = NO_CHAIN
        # Whatever else a run is caused by begins a chain. So does an erased one: no notebook
        # that is deleted runs again.
        if isinstance(requested, Execution.Requested) and requested.cause:
            trigger_id = requested.cause.trigger_id
            started = None if trigger_id is None else await self._first(trigger_id)
            if isinstance(started, Trigger.Started) and started.chains:
                before = [tuple(chain) for chain in started.chains]
        return continued(before, source.notebook_id)

    async def _first(self, stream_id: UUID) -> object:
        """The first event of a stream; ``None`` where it is erased."""
        history = await self._store.read_stream(stream_id, limit=1)
        return decode(history[0]) if history else None
