"""A notice of a schedule whose runs fail one after the other."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID, uuid5

from eventsourcing.domain import BaseAggregate, CanInitAggregate, event

from nbledger_domain.events import DomainEvent, register
from nbledger_domain.vocabulary.termination import TerminationCode


def schedule_notice_id(schedule_id: UUID, first_execution_id: UUID) -> UUID:
    """The stream of what is told of the series of failures that begins with this run."""
    return uuid5(schedule_id, f"notice.schedule-failing {first_execution_id}")


class ScheduleNotice(BaseAggregate[UUID]):
    """What is told of one series of failed runs; its stream has one event."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a schedule's notice."""

    class Failing(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """So many runs have failed one after the other, the first of them at ``since``.

        ``termination_code`` says how the last of them has ended.
        """

        TYPE: ClassVar[str] = "notice.schedule-failing.v1"
        originator_topic: str
        notebook_id: UUID
        schedule_id: UUID
        failures: int
        since: datetime
        first_execution_id: UUID
        last_execution_id: UUID
        termination_code: TerminationCode

    @event(Failing)
    def __init__(
        self,
        *,
        notebook_id: UUID,
        schedule_id: UUID,
        failures: int,
        since: datetime,
        first_execution_id: UUID,
        last_execution_id: UUID,
        termination_code: TerminationCode,
    ) -> None:
        self.notebook_id = notebook_id
        self.schedule_id = schedule_id
        self.failures = failures
        self.since = since
        self.first_execution_id = first_execution_id
        self.last_execution_id = last_execution_id
        self.termination_code = termination_code

    @classmethod
    def tell(
        cls,
        schedule_id: UUID,
        *,
        notebook_id: UUID,
        failures: int,
        since: datetime,
        first_execution_id: UUID,
        last_execution_id: UUID,
        termination_code: TerminationCode,
        at: datetime,
    ) -> "ScheduleNotice":
        """The runs of a schedule fail."""
        return cls._create(
            cls.Failing,
            id=schedule_notice_id(schedule_id, first_execution_id),
            timestamp=at,
            notebook_id=notebook_id,
            schedule_id=schedule_id,
            failures=failures,
            since=since,
            first_execution_id=first_execution_id,
            last_execution_id=last_execution_id,
            termination_code=termination_code,
        )


register(ScheduleNotice)
