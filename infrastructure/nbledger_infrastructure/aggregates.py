"""Reading aggregates back from the event store."""

from collections.abc import Sequence
from typing import Generic, TypeVar, cast
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate

# A stream may hold any event: its class is known once the module of its aggregate is imported.
from nbledger_domain import (
    automation,  # noqa: F401
    dataset,  # noqa: F401
    events,
    execution,  # noqa: F401
    execution_action,  # noqa: F401
    histories,  # noqa: F401
    library,  # noqa: F401
    notebook,  # noqa: F401
    notices,  # noqa: F401
    schedule,  # noqa: F401
)
from nbledger_domain.events import DomainEvent
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent, Stream

A = TypeVar("A", bound=BaseAggregate[UUID])


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


def stream_of(event: RecordedEvent) -> Stream:
    """The stream that ``event`` is in."""
    return Stream(
        stream_id=event.stream_id,
        subject_id=event.subject_id,
        tenant_id=event.tenant_id,
        project_id=event.project_id,
    )


async def load(
    store: EventStore,
    aggregate_class: type[A],
    stream_id: UUID,
    *,
    up_to_version: int | None = None,
    up_to_position: int | None = None,
) -> Loaded[A] | None:
    """The aggregate of this stream, or ``None`` where the store has none (or erased it).

    With ``up_to_version`` or ``up_to_position``, as it was then.
    """
    history = await store.read_stream(stream_id, limit=up_to_version, up_to_position=up_to_position)
    aggregate = replay(aggregate_class, history)
    if aggregate is None:
        return None
    last = history[-1]
    return Loaded(aggregate, stream_of(last), last.position)
