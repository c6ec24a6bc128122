"""What events bring about: steps that may be taken again, until nothing is left to do."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from nbledger_application.reactions import deletions, eraser
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent

Reactor = Callable[[EventStore, Pool, ArtifactStore, Sequence[RecordedEvent]], Awaitable[None]]
"""Gets every batch of events at least once, in order."""


async def _delete(
    store: EventStore, pool: Pool, _: ArtifactStore, batch: Sequence[RecordedEvent]
) -> None:
    await deletions.react(store, pool, batch)


REACTORS: Final[Mapping[str, Reactor]] = {deletions.NAME: _delete, eraser.NAME: eraser.react}
"""By the name under which each keeps its checkpoint."""
