"""Loading aggregates from the event store and saving what they decided."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate

from nbledger_domain import events
from nbledger_domain.events import DomainEvent
from nbledger_infrastructure.event_store import (
    AppendResult,
    EventStore,
    Metadata,
    NewEvent,
    RecordConflictError,
    RecordedEvent,
    Stream,
)
from nbledger_infrastructure.identifiers import new_id

A = TypeVar("A", bound=BaseAggregate[UUID])
R = TypeVar("R")

UPDATE_ATTEMPTS = 10


class Loaded(msgspec.Struct, Generic[A]):
    """An aggregate as the store knows it, its stream, and the position of its last event."""

    aggregate: A
    stream: Stream
    position: int


def decode(recorded: RecordedEvent) -> DomainEvent | None:
    """The domain event in ``recorded``, or ``None`` where its data has been erased."""
    if recorded.data is None:
        return None
    return events.decode(
        recorded.stored_type,
        recorded.data,
        stream_id=recorded.stream_id,
        version=recorded.version,
        occurred_at=recorded.occurred_at,
    )


def replay(
    aggregate_class: type[A], history: Sequence[RecordedEvent], onto: A | None = None
) -> A | None:
    """The aggregate that ``history`` adds up to; ``None`` where there is none or it is erased.

    ``onto`` is the aggregate as it was before ``history``.
    """
    aggregate = onto
    for recorded in history:
        event = decode(recorded)
        if event is None:
            return None
        aggregate = cast("A | None", event.mutate(aggregate))
    if not isinstance(aggregate, aggregate_class):
        return None
    return aggregate


async def load(
    store: EventStore,
    aggregate_class: type[A],
    stream_id: UUID,
    *,
    up_to_version: int | None = None,
) -> Loaded[A] | None:
    """The aggregate of this stream, or ``None`` where the store has none (or erased it).

    With ``up_to_version``, as it was then.
    """
    history = await store.read_stream(stream_id, limit=up_to_version)
    aggregate = replay(aggregate_class, history)
    if aggregate is None:
        return None
    last = history[-1]
    stream = Stream(
        stream_id=stream_id,
        subject_id=last.subject_id,
        tenant_id=last.tenant_id,
        project_id=last.project_id,
    )
    return Loaded(aggregate, stream, last.position)


async def save(
    store: EventStore,
    aggregate: BaseAggregate[UUID],
    stream: Stream,
    metadata: Metadata,
    *,
    subject_unchanged_since: int | None = None,
) -> AppendResult | None:
    """Append what ``aggregate`` decided; ``None`` when it decided nothing.

    Raises :class:`RecordConflictError` when somebody else has appended to the stream since
    (or, with ``subject_unchanged_since``, to anything of the same subject); the aggregate is
    then of no further use.
    """
    decided = cast("Sequence[DomainEvent]", aggregate.collect_events())
    if not decided:
        return None
    return await store.append(
        stream,
        [
            NewEvent(
                event_id=new_id(),
                type=event.TYPE,
                data=events.encode(event),
                occurred_at=event.timestamp,
            )
            for event in decided
        ],
        expected_version=decided[0].originator_version - 1,
        metadata=metadata,
        subject_unchanged_since=subject_unchanged_since,
    )


async def update(
    store: EventStore,
    aggregate_class: type[A],
    stream_id: UUID,
    change: Callable[[A], R],
    metadata: Metadata,
) -> tuple[Loaded[A], R] | None:
    """Load, ``change``, save; again from the start whenever somebody else was quicker.

    Returns the aggregate as saved with what ``change`` returned, or ``None`` where the store
    has no such aggregate. Raises what ``change`` raises, and :class:`RecordConflictError`
    after ten lost races.
    """
    for attempt in range(UPDATE_ATTEMPTS):
        loaded = await load(store, aggregate_class, stream_id)
        if loaded is None:
            return None
        result = change(loaded.aggregate)
        try:
            appended = await save(store, loaded.aggregate, loaded.stream, metadata)
        except RecordConflictError:
            if attempt == UPDATE_ATTEMPTS - 1:
                raise
            continue
        if appended is not None:
            loaded.position = appended.position
        return loaded, result
    raise AssertionError("unreachable")
