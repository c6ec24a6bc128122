"""A firing: what became of one time at which a schedule was due."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID

from eventsourcing.domain import BaseAggregate, CanMutateAggregate
from msgspec import UNSET, UnsetType

from nbledger_domain.events import DomainEvent, register

Trigger = Literal["due", "manual", "backfill"]
"""Why it fires: its time came, somebody asked for a run, or for what was due earlier."""

SkipReason = Literal[
    "overlap",
    "queue_full",
    "superseded",
    "paused",
    "schedule_removed",
    "nothing_to_execute",
]
MissReason = Literal["catch_up"]


class FiringOutcome(StrEnum):
    """What has become of it; but for ``QUEUED`` and what a backfill makes up for it is final."""

    STARTED = "started"
    QUEUED = "queued"
    SKIPPED = "skipped"
    MISSED = "missed"


class Firing(BaseAggregate[UUID]):
    """What became of one time at which a schedule was due; each stream has one event or two."""

    def __init__(self) -> None:
        self.outcome = FiringOutcome.QUEUED

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a firing, any of which may come first.

        ``due_at`` is the time that the schedule named, or at which somebody asked.
        """

        OUTCOME: ClassVar[FiringOutcome]
        schedule_id: UUID
        due_at: datetime
        trigger: Trigger

        def mutate(self, aggregate: Any) -> Any:
            """The firing after this event, which may be its first."""
            if aggregate is not None:
                return CanMutateAggregate.mutate(self, aggregate)
            firing = Firing.__new__(Firing)
            firing.__base_init__(
                originator_id=self.originator_id,
                originator_version=self.originator_version,
                timestamp=self.timestamp,
            )
            firing.__init__()  # type: ignore[misc]
            self.apply(firing)
            return firing

        def apply(self, aggregate: "Firing") -> None:
            """It has become this."""
            aggregate.outcome = self.OUTCOME

    class Started(Event, frozen=True, kw_only=True):
        """Its run was asked for: the notebook as of that version of its stream."""

        TYPE: ClassVar[str] = "firing.started.v1"
        OUTCOME: ClassVar[FiringOutcome] = FiringOutcome.STARTED
        execution_id: UUID
        notebook_stream_version: int

    class Queued(Event, frozen=True, kw_only=True):
        """It waits for an earlier run of the schedule to end."""

        TYPE: ClassVar[str] = "firing.queued.v1"
        OUTCOME: ClassVar[FiringOutcome] = FiringOutcome.QUEUED

    class Skipped(Event, frozen=True, kw_only=True):
        """It does not run, for this reason.

        With ``through`` the event speaks of every time from ``due_at`` to that moment;
        ``count`` says how many there are, where they have been counted.
        """

        TYPE: ClassVar[str] = "firing.skipped.v1"
        OUTCOME: ClassVar[FiringOutcome] = FiringOutcome.SKIPPED
        reason: SkipReason
        through: datetime | UnsetType = UNSET
        count: int | UnsetType = UNSET

    class Missed(Event, frozen=True, kw_only=True):
        """Nobody was there in time to fire it; ``through`` and ``count`` as when it is skipped."""

        TYPE: ClassVar[str] = "firing.missed.v1"
        OUTCOME: ClassVar[FiringOutcome] = FiringOutcome.MISSED
        reason: MissReason
        through: datetime | UnsetType = UNSET
        count: int | UnsetType = UNSET

    @property
    def started(self) -> bool:
        """Whether its run was asked for."""
        return self.outcome is FiringOutcome.STARTED


register(Firing)
