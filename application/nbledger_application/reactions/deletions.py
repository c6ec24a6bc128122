"""Deletions under way: a notebook whose deletion was requested goes with its last execution.

A process manager: it reads events and appends events, and every step may be repeated. The API
takes the first step at once; this reactor takes whatever is left, also after a crash.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
import structlog

from nbledger_application import repository
from nbledger_domain.errors import ExecutionEndedError
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import TERMINAL_EVENTS, Execution, TerminationCode
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.actors import SERVICE
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordConflictError,
    RecordedEvent,
)

log = structlog.get_logger(__name__)

NAME = "deletions"
"""Under this name the reactor keeps its checkpoint."""

_TERMINAL = [event.TYPE for event in TERMINAL_EVENTS]
# SQL compares the types as they are stored.
_STORED_REQUESTED = EVENT_TYPES.stored_names(Execution.Requested.TYPE)
_STORED_TERMINAL = [name for each in _TERMINAL for name in EVENT_TYPES.stored_names(each)]
_STORED_DELETED = [
    name
    for each in (Notebook.DeletionRequested, Notebook.Deleted)
    for name in EVENT_TYPES.stored_names(each.TYPE)
]
_OF_INTEREST = {Notebook.DeletionRequested.TYPE, Execution.Requested.TYPE, *_TERMINAL}


class Activity(msgspec.Struct, frozen=True):
    """The executions of a notebook that have not ended, as of the last event that concerns it."""

    position: int
    running: list[UUID]


async def last_position(pool: Pool, notebook_id: UUID) -> int:
    """The position of the last event that concerns the notebook, 0 when there is none."""
    async with acquire(pool) as connection:
        position: int = await connection.fetchval(
            "SELECT coalesce(max(position), 0) FROM event WHERE subject_id = $1", notebook_id
        )
    return position


async def activity(pool: Pool, notebook_id: UUID) -> Activity:
    """What is under way, from the events themselves: never late."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            """
            SELECT
                (SELECT coalesce(max(position), 0) FROM event WHERE subject_id = $1) AS position,
                array(
                    SELECT asked.stream_id FROM event AS asked
                    WHERE asked.subject_id = $1 AND asked.type = ANY($2) AND NOT EXISTS (
                        SELECT FROM event AS ended
                        WHERE ended.stream_id = asked.stream_id AND ended.type = ANY($3)
                    )
                    ORDER BY asked.position
                ) AS running
            """,
            notebook_id,
            _STORED_REQUESTED,
            _STORED_TERMINAL,
        )
    assert row is not None  # noqa: S101 (a SELECT without FROM gives one row)
    return Activity(row["position"], row["running"])


async def react(store: EventStore, pool: Pool, batch: Sequence[RecordedEvent]) -> None:
    """Take the next step of every deletion that ``batch`` concerns."""
    told = [event for event in batch if event.type in _OF_INTEREST]
    # Nearly always none: what runs of a notebook is looked up in all of its events.
    going = await _going(pool, {event.subject_id for event in told})
    for recorded in [event for event in told if event.subject_id in going]:
        metadata = Metadata(
            actor=SERVICE,
            correlation_id=recorded.metadata.correlation_id,
            causation_id=str(recorded.event_id),
            traceparent=recorded.metadata.traceparent,
        )
        await advance(store, pool, recorded.subject_id, metadata)


async def _going(pool: Pool, notebook_ids: set[UUID]) -> set[UUID]:
    """Of these notebooks, those that are deleted or about to be."""
    if not notebook_ids:
        return set()
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            """
            SELECT DISTINCT stream_id FROM event
            WHERE stream_id = ANY($1) AND type = ANY($2)
            """,
            sorted(notebook_ids),
            _STORED_DELETED,
        )
    return {row[0] for row in rows}


async def advance(store: EventStore, pool: Pool, notebook_id: UUID, metadata: Metadata) -> bool:
    """Cancel what runs of a notebook that is to go; delete it when nothing does.

    Returns whether it is gone. Does nothing to a notebook that is to stay.
    """

    async def step() -> bool:
        # In this order: what happens in between is noticed at the append.
        found = await activity(pool, notebook_id)
        loaded = await aggregates.load(store, Notebook, notebook_id)
        if loaded is None:
            # Erased. Whatever slipped in after the deletion is still to be ended.
            await _cancel_all(store, found.running, metadata)
            return True
        notebook = loaded.aggregate
        if not (notebook.deletion_requested or notebook.deleted):
            return False
        if found.running:
            await _cancel_all(store, found.running, metadata)
            found = await activity(pool, notebook_id)
        if notebook.deleted:
            return True
        if found.running:
            return False
        notebook.delete(at=now())
        await repository.save(
            store, notebook, loaded.stream, metadata, subject_unchanged_since=found.position
        )
        log.info("notebook deleted after its executions", notebook_id=str(notebook_id))
        return True

    try:
        return await repository.until_saved(step)
    except RecordConflictError:
        # What moved the subject is in the log too, and brings the reactor here again.
        return False


async def _cancel_all(store: EventStore, execution_ids: Sequence[UUID], metadata: Metadata) -> None:
    """Ask every execution to end; those that wait for a worker end at once."""

    def request_cancel(execution: Execution) -> None:
        execution.request_cancel(
            requested_by=metadata.actor, at=now(), reason=TerminationCode.NOTEBOOK_DELETED
        )

    for execution_id in execution_ids:
        try:
            await repository.update(store, Execution, execution_id, request_cancel, metadata)
        except ExecutionEndedError:
            continue
