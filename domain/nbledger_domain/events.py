"""Domain events: their base class, and their form in the store.

An event is a frozen msgspec Struct that the eventsourcing library can apply to an
aggregate. Its payload (everything but stream, version and time, which the store keeps in
columns of their own) is written as one camelCase JSON object under a type name that carries
a schema version, such as ``notebook.created.v1``.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate, CanMutateAggregate
from eventsourcing.utils import get_topic

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


Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes of a payload, as plain data with the names of its JSON, that of the next version."""

_VERSIONED = re.compile(r"(?P<name>[a-z]+\.[a-z-]+)\.v(?P<version>[1-9][0-9]*)")


class EventTypes:
    """The event types that this version of the software can read.

    A type is read as the class that is registered for it, or goes through upcasters, each of
    which takes a payload one version further, until there is a class.
    """

    def __init__(self) -> None:
        self.classes: dict[str, tuple[type[DomainEvent], str | None]] = {}
        self._upcasters: dict[str, tuple[str, Upcast]] = {}

    def register(self, aggregate: type[BaseAggregate[UUID]]) -> None:
        """Make the event classes of ``aggregate`` known."""
        for event_class in vars(aggregate).values():
            if (
                isinstance(event_class, type)
                and issubclass(event_class, DomainEvent)
                and event_class.TYPE
            ):
                initial = "originator_topic" in event_class.__struct_fields__
                topic = get_topic(aggregate) if initial else None
                self.classes[event_class.TYPE] = (event_class, topic)

    def add_upcaster(self, old: str, upcast: Upcast) -> None:
        """Read payloads of type ``old`` as the next version of that type.

        Raises ``ValueError`` where ``old`` has no version, or is read some way already.
        """
        match = _VERSIONED.fullmatch(old)
        if match is None or old in self.classes or old in self._upcasters:
            raise ValueError(f"{old} cannot be upcast")
        new = f"{match['name']}.v{int(match['version']) + 1}"
        self._upcasters[old] = (new, upcast)

    def current(self, type_name: str) -> str:
        """The type that events stored under ``type_name`` are read as."""
        while (step := self._upcasters.get(type_name)) is not None:
            type_name = step[0]
        return type_name

    def stored_names(self, type_name: str) -> list[str]:
        """Every name that events of the current type ``type_name`` are stored under."""
        return [type_name, *(old for old in self._upcasters if self.current(old) == type_name)]

    def readable(self) -> set[str]:
        """Every type that stored events may have, current or not."""
        return {*self.classes, *self._upcasters}

    def upcast(self, type_name: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The current type of a stored payload, and the payload in that type's form."""
        while (step := self._upcasters.get(type_name)) is not None:
            type_name, data = step[0], step[1](data)
        return type_name, data


EVENT_TYPES: Final = EventTypes()
"""The types of this service. Upcasters are added here, below the class of the newer version."""

register = EVENT_TYPES.register


def encode(event: DomainEvent) -> bytes:
    """The payload of ``event`` as a JSON object."""
    payload = {
        wire: getattr(event, name)
        for name, wire in zip(event.__struct_fields__, event.__struct_encode_fields__, strict=True)
        if name not in _ENVELOPE and getattr(event, name) is not msgspec.UNSET
    }
    return msgspec.json.encode(payload)


def decode(
    type_name: str,
    data: bytes,
    *,
    stream_id: UUID,
    version: int,
    occurred_at: datetime,
    types: EventTypes = EVENT_TYPES,
) -> DomainEvent:
    """The event that :func:`encode` wrote, in this or an earlier version of the software.

    Raises :class:`UnknownEventTypeError`, or ``msgspec.ValidationError`` where the payload is
    not of that type.
    """
    current, fields = types.upcast(type_name, msgspec.json.decode(data))
    try:
        event_class, topic = types.classes[current]
    except KeyError:
        raise UnknownEventTypeError(type_name) from None
    fields["originatorId"] = stream_id
    fields["originatorVersion"] = version
    fields["timestamp"] = occurred_at
    if topic is not None:
        fields["originatorTopic"] = topic
    return msgspec.convert(fields, event_class)
