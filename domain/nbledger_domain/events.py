"""Domain events: their base class, and their form in the store.

An event is a frozen msgspec Struct that the eventsourcing library can apply to an
aggregate. Its payload (everything but stream, version and time, which the store keeps in
columns of their own) is written as one camelCase JSON object under a type name that carries
a schema version, such as ``notebook.created.v1``.
"""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate, CanMutateAggregate
from eventsourcing.utils import get_topic

type_registry: dict[str, tuple[type["DomainEvent"], str | None]] = {}

_ENVELOPE = frozenset({"originator_id", "originator_version", "timestamp", "originator_topic"})


class DomainEvent(
    msgspec.Struct, CanMutateAggregate[UUID], frozen=True, kw_only=True, rename="camel"
):
    """Something that has happened to one aggregate.

    ``originator_id`` is the stream, ``originator_version`` the event's place in it (from 1),
    ``timestamp`` the time of the decision in UTC.
    """

    TYPE: ClassVar[str] = ""

    originator_id: UUID
    originator_version: int
    timestamp: datetime

    def _as_dict(self) -> dict[str, Any]:
        # The library's default is vars(), which a Struct does not have.
        return {name: getattr(self, name) for name in self.__struct_fields__}


class UnknownEventTypeError(Exception):
    """The store holds an event type that this version of the software does not know."""


def register(aggregate: type[BaseAggregate[UUID]]) -> None:
    """Make the event classes nested in ``aggregate`` known to :func:`decode`."""
    for event_class in vars(aggregate).values():
        if isinstance(event_class, type) and issubclass(event_class, DomainEvent):
            if not event_class.TYPE:
                continue
            initial = "originator_topic" in event_class.__struct_fields__
            topic = get_topic(aggregate) if initial else None
            type_registry[event_class.TYPE] = (event_class, topic)


def encode(event: DomainEvent) -> bytes:
    """The payload of ``event`` as a JSON object."""
    payload = {
        wire: getattr(event, name)
        for name, wire in zip(event.__struct_fields__, event.__struct_encode_fields__, strict=True)
        if name not in _ENVELOPE and getattr(event, name) is not msgspec.UNSET
    }
    return msgspec.json.encode(payload)


def decode(
    type_name: str, data: bytes, *, stream_id: UUID, version: int, occurred_at: datetime
) -> DomainEvent:
    """The event that :func:`encode` wrote.

    Raises :class:`UnknownEventTypeError`, or ``msgspec.ValidationError`` where the payload is
    not of that type.
    """
    try:
        event_class, topic = type_registry[type_name]
    except KeyError:
        raise UnknownEventTypeError(type_name) from None
    fields: dict[str, Any] = msgspec.json.decode(data)
    fields["originatorId"] = stream_id
    fields["originatorVersion"] = version
    fields["timestamp"] = occurred_at
    if topic is not None:
        fields["originatorTopic"] = topic
    return msgspec.convert(fields, event_class)
