"""That somebody has read a history: an event, at most one an hour for each reader and history."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID, uuid5

import msgspec
from eventsourcing.domain import BaseAggregate, CanInitAggregate, event
from msgspec import UNSET, UnsetType

from nbledger_domain.events import DomainEvent, register

HistoryKind = Literal[
    "notebook",
    "execution",
    "schedule",
    "automation",
    "dataset",
    "library",
    "action",
    "project",
    "tenant",
    "reads",
]
"""Whose history: that of one thing, all of a project or tenant, or what is recorded of reading."""

Manner = Literal["page", "stream", "export", "past"]
"""How: in pages, as a stream that goes on, as a whole; or a state of the past, made of it."""


class HistoryRead(BaseAggregate[UUID]):
    """What is recorded of one reader, one history and one hour; its stream has one event."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of reading."""

    class Read(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """A principal has begun to read a history, and may have read on in the ``hour``.

        ``subject_id`` is whose history; it is absent where that is told by the project, or by the
        tenant. ``after`` and ``until`` are positions between which a whole export was asked
        for; one that goes on from a position has none.
        """

        TYPE: ClassVar[str] = "history.read.v1"
        originator_topic: str
        history: HistoryKind
        manner: Manner
        hour: datetime
        subject_id: UUID | UnsetType = UNSET
        after: int | UnsetType = UNSET
        until: int | UnsetType = UNSET

    @event(Read)
    def __init__(
        self,
        *,
        history: HistoryKind,
        manner: Manner,
        hour: datetime,
        subject_id: UUID | UnsetType = UNSET,
        after: int | UnsetType = UNSET,
        until: int | UnsetType = UNSET,
    ) -> None:
        self.history: HistoryKind = history
        self.manner: Manner = manner
        self.hour = hour
        self.subject_id = subject_id
        self.after = after
        self.until = until

    @classmethod
    def record(
        cls,
        read_id: UUID,
        *,
        history: HistoryKind,
        manner: Manner,
        at: datetime,
        subject_id: UUID | None = None,
        after: int | None = None,
        until: int | None = None,
    ) -> "HistoryRead":
        """Somebody reads a history now."""
        return cls._create(
            cls.Read,
            id=read_id,
            timestamp=at,
            history=history,
            manner=manner,
            hour=hour_of(at),
            subject_id=UNSET if subject_id is None else subject_id,
            after=UNSET if after is None else after,
            until=UNSET if until is None else until,
        )


def hour_of(at: datetime) -> datetime:
    """The beginning of the hour."""
    return at.replace(minute=0, second=0, microsecond=0)


class ReadKey(msgspec.Struct, frozen=True):
    """Of what there is one record in an hour. ``subject_id`` is ``None`` as in the event."""

    tenant_id: UUID
    project_id: UUID
    principal: str
    history: HistoryKind
    subject_id: UUID | None
    manner: Manner

    def stream_id(self, at: datetime) -> UUID:
        """The stream of what is recorded of it in the hour: always the same."""
        parts = [self.project_id, self.principal, self.history, self.subject_id, self.manner]
        name = "|".join(map(str, [*parts, hour_of(at).isoformat()]))
        return uuid5(self.tenant_id, f"history.read|{name}")


register(HistoryRead)
