"""A notice of a notebook whose automatic runs fail one after the other."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID, uuid5

from eventsourcing.domain import BaseAggregate, CanInitAggregate, event

from nbledger_domain.events import DomainEvent, register
from nbledger_domain.vocabulary.termination import TerminationCode


def automation_id_of(notebook_id: UUID) -> UUID:
    """The id under which failures of a notebook's automatic runs are counted."""
    return uuid5(notebook_id, "automatic execution")


def automation_notice_id(notebook_id: UUID, first_execution_id: UUID) -> UUID:
    """The stream of what is told of the series of failures that begins with this run."""
    return uuid5(notebook_id, f"notice.automation-failing {first_execution_id}")


class AutomationNotice(BaseAggregate[UUID]):
    """What is told of one series of failed runs; its stream has one event."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a notice of automatic execution."""

    class Failing(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """So many automatic runs have failed one after the other, the first of them at ``since``.

        ``termination_code`` says how the last of them has ended.
        """

        TYPE: ClassVar[str] = "notice.automation-failing.v1"
        originator_topic: str
        notebook_id: UUID
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
        failures: int,
        since: datetime,
        first_execution_id: UUID,
        last_execution_id: UUID,
        termination_code: TerminationCode,
    ) -> None:
        self.notebook_id = notebook_id
        self.failures = failures
        self.since = since
        self.first_execution_id = first_execution_id
        self.last_execution_id = last_execution_id
        self.termination_code = termination_code

    @classmethod
    def tell(
        cls,
        notebook_id: UUID,
        *,
        failures: int,
        since: datetime,
        first_execution_id: UUID,
        last_execution_id: UUID,
        termination_code: TerminationCode,
        at: datetime,
    ) -> "AutomationNotice":
        """The automatic runs of a notebook fail."""
        return cls._create(
            cls.Failing,
            id=automation_notice_id(notebook_id, first_execution_id),
            timestamp=at,
            notebook_id=notebook_id,
            failures=failures,
            since=since,
            first_execution_id=first_execution_id,
            last_execution_id=last_execution_id,
            termination_code=termination_code,
        )


register(AutomationNotice)
