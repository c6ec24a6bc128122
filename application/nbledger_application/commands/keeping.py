"""New things with files: the files are kept first, and go where nothing is recorded of them."""

from uuid import UUID

import structlog
from eventsourcing.domain import BaseAggregate

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    EventStore,
    IdempotencyKey,
    InvalidEventError,
    KeyUsedError,
    RecordConflictError,
    StoreUnavailableError,
)

log = structlog.get_logger(__name__)


async def save_new(
    store: EventStore,
    artifacts: ArtifactStore,
    caller: Caller,
    aggregate: BaseAggregate[UUID],
    *,
    key: IdempotencyKey | None = None,
) -> AppendResult:
    """Record a new aggregate; returns its place.

    What was kept for it is removed again when it is certain that nothing was recorded.
    Raises :class:`KeyUsedError` where an earlier request came with the same ``key``.
    """
    stream = caller.stream(aggregate.id, aggregate.id)
    try:
        appended = await repository.save(store, aggregate, stream, caller.metadata(), key=key)
    except (
        StoreUnavailableError,
        InvalidEventError,
        RecordConflictError,
        KeyUsedError,
    ) as error:
        if not (isinstance(error, StoreUnavailableError) and error.outcome_unknown):
            await remove_kept(artifacts, caller, aggregate.id)
        raise
    assert appended is not None  # noqa: S101 (a creation is an event)
    return appended


async def remove_kept(artifacts: ArtifactStore, caller: Caller, subject_id: UUID) -> None:
    """Remove the files of what was not recorded; a failure is logged, not raised."""
    try:
        await artifacts.delete_all(caller.scope(subject_id))
    except Exception as error:  # noqa: BLE001 (whatever the artifact store raises)
        log.warning("a file that nobody knows of was left", reason=str(error))
