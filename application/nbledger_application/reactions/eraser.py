"""Erasing what is deleted: the data of its events, and its artifacts.

What remains of a deleted notebook, dataset or library is proof that it was there: types, times,
actors, digests.
"""

from collections.abc import Sequence

import structlog

from nbledger_application.reactions.deletions import activity
from nbledger_domain.transparency.erasures import DELETIONS
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent

log = structlog.get_logger(__name__)

NAME = "eraser"
"""Under this name the eraser keeps its checkpoint."""


async def react(
    store: EventStore, pool: Pool, artifacts: ArtifactStore, batch: Sequence[RecordedEvent]
) -> None:
    """Erase everything that ``batch`` deletes; to do so again changes nothing.

    What comes at the very moment of the deletion, such as an execution, a firing or a trigger, may
    be recorded after it: its data and artifacts then go as well.
    """
    deleted = {event.subject_id: event for event in batch if event.stored_type in DELETIONS}
    told = {event.subject_id: event for event in batch if event.data is not None}
    late = told.keys() - deleted.keys()
    if late:
        async with acquire(pool) as connection:
            rows = await connection.fetch(
                "SELECT subject_id FROM erasure WHERE subject_id = ANY($1)", list(late)
            )
        for row in rows:
            # A run that slipped in is ended first, by what its events tell, and erased by its end.
            if not (await activity(pool, row[0])).running:
                deleted[row[0]] = told[row[0]]
    for subject_id, event in deleted.items():
        erased = await store.erase_subject(subject_id)
        removed = await artifacts.delete_all(Scope(event.tenant_id, event.project_id, subject_id))
        log.info("subject erased", subject_id=str(subject_id), events=erased, artifacts=removed)
