"""A notice of a run that takes longer than usual."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID, uuid5

from eventsourcing.domain import BaseAggregate, CanInitAggregate, event

from nbledger_domain.events import DomainEvent, register
from nbledger_domain.execution.usual_durations import Usual


def run_notice_id(execution_id: UUID) -> UUID:
    """The stream of what is told of a run: one for each, so that it is told once."""
    return uuid5(execution_id, "notice.run-slow")


class RunNotice(BaseAggregate[UUID]):
    """What is told of one run; its stream has one event."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a run's notice."""

    class Slow(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """The run takes longer than usual, and goes on.

        It had taken ``seconds`` since ``started_at``, when a worker took it: more than the
        ``threshold_seconds`` that follow from what is ``usual``.
        """

        TYPE: ClassVar[str] = "notice.run-slow.v1"
        originator_topic: str
        notebook_id: UUID
        execution_id: UUID
        started_at: datetime
        seconds: float
        threshold_seconds: float
        usual: Usual

    @event(Slow)
    def __init__(
        self,
        *,
        notebook_id: UUID,
        execution_id: UUID,
        started_at: datetime,
        seconds: float,
        threshold_seconds: float,
        usual: Usual,
    ) -> None:
        self.notebook_id = notebook_id
        self.execution_id = execution_id
        self.started_at = started_at
        self.seconds = seconds
        self.threshold_seconds = threshold_seconds
        self.usual = usual

    @classmethod
    def tell(
        cls,
        execution_id: UUID,
        *,
        notebook_id: UUID,
        started_at: datetime,
        seconds: float,
        threshold_seconds: float,
        usual: Usual,
        at: datetime,
    ) -> "RunNotice":
        """A run takes longer than usual."""
        return cls._create(
            cls.Slow,
            id=run_notice_id(execution_id),
            timestamp=at,
            notebook_id=notebook_id,
            execution_id=execution_id,
            started_at=started_at,
            seconds=seconds,
            threshold_seconds=threshold_seconds,
            usual=usual,
        )


register(RunNotice)
