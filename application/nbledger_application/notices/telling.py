"""Telling once what concerns a notebook: a run that is slow, a schedule that fails."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from eventsourcing.domain import BaseAggregate

from nbledger_application import repository
from nbledger_application.reactions.deletions import last_position
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordConflictError,
    Stream,
)


async def tell(
    store: EventStore,
    pool: Pool,
    stream: Stream,
    make: Callable[[], BaseAggregate[UUID]],
    *,
    metadata: Metadata,
    holds_true: Callable[[], Awaitable[bool]],
) -> bool | None:
    """Append the notice that ``make`` gives, unless it is told already, or not true any more.

    Nothing of the subject comes between the look whether it ``holds_true`` and the append, so that
    a run is never told to be slow after its end, and nothing is told of what is erased. Returns
    whether it is told, by whomever; ``None`` where the subject moved at each try, as it does at
    times while much is going on.
    """
    for _ in range(repository.ATTEMPTS):
        position = await last_position(pool, stream.subject_id)
        if not await holds_true():
            return False
        try:
            await repository.save(store, make(), stream, metadata, subject_unchanged_since=position)
        except RecordConflictError as conflict:
            if conflict.actual_version > 0:
                return True
        else:
            return True
    return None
