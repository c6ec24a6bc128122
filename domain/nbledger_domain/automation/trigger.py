"""A trigger: what became of one or several changes to what a notebook is made of."""

from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid5

from eventsourcing.domain import BaseAggregate, CanMutateAggregate
from msgspec import UNSET, UnsetType

from nbledger_domain.automation.settings import ChangeKind
from nbledger_domain.events import DomainEvent, register

SkipReason = Literal[
    "loop",
    "chain_too_long",
    "switched_off",
    "unbound",
    "dataset_deleted",
    "nothing_to_execute",
]


class TriggerOutcome(StrEnum):
    """What has become of it, for good."""

    STARTED = "started"
    SKIPPED = "skipped"


class Trigger(BaseAggregate[UUID]):
    """What became of changes that were gathered; each stream has one event."""

    def __init__(self) -> None:
        self.outcome = TriggerOutcome.STARTED

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a trigger.

        It speaks of ``changes`` changes, from the event ``first_event_id`` to the event
        ``last_event_id``, which is at the position ``through``. ``kind``, ``dataset_id`` and
        ``dataset_version`` are those of the newest. ``chains`` are the notebooks whose runs led
        here, from the first cause on, in several orders where there are several; it is absent
        where no run did.
        """

        OUTCOME: ClassVar[TriggerOutcome]
        kind: ChangeKind
        changes: int
        first_event_id: UUID
        last_event_id: UUID
        through: int
        dataset_id: UUID | UnsetType = UNSET
        dataset_version: int | UnsetType = UNSET
        chains: list[list[UUID]] | UnsetType = UNSET

        def mutate(self, aggregate: Any) -> Any:
            """The trigger after this event, which is its first."""
            if aggregate is not None:
                return CanMutateAggregate.mutate(self, aggregate)
            trigger = Trigger.__new__(Trigger)
            trigger.__base_init__(
                originator_id=self.originator_id,
                originator_version=self.originator_version,
                timestamp=self.timestamp,
            )
            trigger.__init__()  # type: ignore[misc]
            self.apply(trigger)
            return trigger

        def apply(self, aggregate: "Trigger") -> None:
            """It has become this."""
            aggregate.outcome = self.OUTCOME

    class Started(Event, frozen=True, kw_only=True):
        """Its run was asked for: the notebook as of that version of its stream."""

        TYPE: ClassVar[str] = "trigger.started.v1"
        OUTCOME: ClassVar[TriggerOutcome] = TriggerOutcome.STARTED
        execution_id: UUID
        notebook_stream_version: int

    class Skipped(Event, frozen=True, kw_only=True):
        """Nothing runs, for this reason."""

        TYPE: ClassVar[str] = "trigger.skipped.v1"
        OUTCOME: ClassVar[TriggerOutcome] = TriggerOutcome.SKIPPED
        reason: SkipReason


def trigger_id_of(notebook_id: UUID, first_event_id: UUID) -> UUID:
    """The id of what becomes of a change, and of those after it, for this notebook."""
    return uuid5(notebook_id, f"trigger:{first_event_id}")


def execution_id_of(trigger_id: UUID) -> UUID:
    """The id of the run that a trigger starts."""
    return uuid5(trigger_id, "execution")


register(Trigger)
