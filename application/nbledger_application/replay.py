"""Any aggregate as it was at any moment, with the events that made it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate

from nbledger_domain import catalogue  # noqa: F401 - events are known once it is imported
from nbledger_domain.errors import DomainError
from nbledger_domain.events import UnknownEventTypeError
from nbledger_domain.histories.states import State, state_of
from nbledger_domain.notebook import Notebook
from nbledger_domain.past.errors import (
    CreatedLaterError,
)
from nbledger_domain.past.moments import AsOf, AtVersion
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.moments import Moment, find, settled
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_infrastructure.postgres.principals import Names

_STREAM: Final = f"SELECT {COLUMNS} FROM event WHERE stream_id = $1 ORDER BY version"  # noqa: S608

_ERASED: Final = "SELECT erased_at FROM erasure WHERE subject_id = $1"


class StreamNotFoundError(DomainError):
    """The store has no such stream."""

    code = "stream_not_found"

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(
            f"there is no stream {stream_id}; give the id of a notebook, an execution, a dataset, "
            "or any streamId of a history"
        )


class NotVersionedError(DomainError):
    """Only notebooks have versions."""

    code = "not_versioned"

    def __init__(self, kind: str) -> None:
        super().__init__(f"this is of kind {kind}, and only notebooks are read as of a version")


class ReplayedEvent(msgspec.Struct, frozen=True, rename="camel"):
    """An event of the stream: ``data`` as it was recorded, null where it is erased.

    ``actor`` is who caused it, by name where there is one.
    """

    position: int
    version: int
    type: str
    event_id: UUID
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    erased: bool
    data: msgspec.Raw


class Replayed(msgspec.Struct, frozen=True, rename="camel"):
    """An aggregate after the event at ``position``.

    ``state`` is ``None`` where ``erased_at`` tells when its data was erased.
    """

    kind: str
    stream_id: UUID
    subject_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    at: datetime
    version: int
    state: State | None
    erased_at: datetime | None
    events: list[ReplayedEvent]


async def replay(pool: Pool, stream_id: UUID, as_of: AsOf | None) -> Replayed:
    """The aggregate of a stream, now or as of then.

    Raises :class:`StreamNotFoundError`, :class:`NotVersionedError`, :class:`CreatedLaterError`,
    :class:`LaterThanNowError`, :class:`NotebookVersionNotFoundError` and
    :class:`UnknownEventTypeError`.
    """
    async with acquire(pool) as connection:
        if as_of is not None:
            await settled(connection, as_of)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            rows = await connection.fetch(_STREAM, stream_id)
            history = [recorded_event(row) for row in rows]
            if not history:
                raise StreamNotFoundError(stream_id)
            kind = history[0].type.partition(".")[0]
            if isinstance(as_of, AtVersion) and kind != Notebook.Created.TYPE.partition(".")[0]:
                raise NotVersionedError(kind)
            moment = await _moment(connection, as_of, history)
            erased_at = await connection.fetchval(_ERASED, history[0].subject_id)
    if history[0].position > moment.position:
        raise CreatedLaterError(kind, history[0].recorded_at, history[0].position)
    known = [each for each in history if each.position <= moment.position]
    names = await Names(pool).of(known[0].tenant_id, [each.metadata.actor for each in known])
    return Replayed(
        kind=kind,
        stream_id=stream_id,
        subject_id=known[0].subject_id,
        tenant_id=known[0].tenant_id,
        project_id=known[0].project_id,
        position=moment.position,
        at=moment.at,
        version=known[-1].version,
        state=state_after(known),
        erased_at=erased_at if any(each.data is None for each in known) else None,
        events=[_told(each, names[each.metadata.actor]) for each in known],
    )


async def _moment(
    connection: PooledConnection, as_of: AsOf | None, history: Sequence[RecordedEvent]
) -> Moment:
    if as_of is None:
        return Moment(history[-1].position, history[-1].recorded_at)
    return await find(connection, as_of, history[0].stream_id)


def _told(recorded: RecordedEvent, actor: str) -> ReplayedEvent:
    return ReplayedEvent(
        position=recorded.position,
        version=recorded.version,
        type=recorded.stored_type,
        event_id=recorded.event_id,
        occurred_at=recorded.occurred_at,
        recorded_at=recorded.recorded_at,
        actor=actor,
        erased=recorded.data is None,
        data=msgspec.Raw(recorded.data or b"null"),
    )


def state_after(history: Sequence[RecordedEvent]) -> State | None:
    """All that the aggregate knows after these events; ``None`` where any of them is erased."""
    aggregate: BaseAggregate[UUID] | None = None
    for recorded in history:
        event = decode(recorded)
        if event is None:
            return None
        aggregate = event.mutate(aggregate)
    if aggregate is None:
        raise UnknownEventTypeError(history[0].type)
    return state_of(aggregate)
