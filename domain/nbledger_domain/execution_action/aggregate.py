"""The execution action: something done to many executions, from the request to its end."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final, Literal
from uuid import UUID, uuid5

import msgspec
from eventsourcing.domain import BaseAggregate, CanInitAggregate, event
from msgspec import UNSET, UnsetType

from nbledger_domain.errors import ActionEndedError
from nbledger_domain.events import DomainEvent, register

ActionKind = Literal["cancel", "rerun"]
ActionOutcome = Literal["completed", "cancelled"]
PassedOutcome = Literal["skipped", "failed"]

SELECTED_AT_ONCE: Final = 1000
"""An event names so many executions at most: events go out on Kafka, whose messages are bounded."""


class PassedOver(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An execution to which it was not done: nothing was to be done, or it could not be.

    ``reason`` is a stable code, ``detail`` says more where there is more to say.
    """

    execution_id: UUID
    outcome: PassedOutcome
    reason: str
    detail: str | None = None


def rerun_id_of(action_id: UUID, execution_id: UUID) -> UUID:
    """The id of the run that an action asks for in repetition of this one: always the same."""
    return uuid5(action_id, str(execution_id))


class ExecutionAction(BaseAggregate[UUID]):
    """Something done to many executions.

    Which ones is settled by the request. ``through`` says how many of them are dealt with, in their
    order; ``done``, ``skipped`` and ``failed`` add up to it.
    """

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of an action."""

    class Requested(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """Somebody asked for it. ``total`` executions are selected by the events right after it.

        ``filter`` is what they were found by, and absent where they were named.
        """

        TYPE: ClassVar[str] = "action.requested.v1"
        originator_topic: str
        action: ActionKind
        total: int
        requested_by: str
        filter: str | UnsetType = UNSET

    class Selected(Event, frozen=True, kw_only=True):
        """It is to be done to these executions, too."""

        TYPE: ClassVar[str] = "action.selected.v1"
        executions: list[UUID]

    class Progressed(Event, frozen=True, kw_only=True):
        """The first ``through`` executions are dealt with.

        Of those since the last such event ``done`` have had it done to them, and the others are
        ``passed`` over.
        """

        TYPE: ClassVar[str] = "action.progressed.v1"
        through: int
        done: int
        passed: list[PassedOver]

    class CancelRequested(Event, frozen=True, kw_only=True):
        """Somebody asked that it be done to no more executions."""

        TYPE: ClassVar[str] = "action.cancel-requested.v1"
        requested_by: str

    class Ended(Event, frozen=True, kw_only=True):
        """All executions are dealt with, or the action was cancelled before."""

        TYPE: ClassVar[str] = "action.ended.v1"
        outcome: ActionOutcome

    @event(Requested)
    def __init__(
        self,
        *,
        action: ActionKind,
        total: int,
        requested_by: str,
        filter: str | UnsetType = UNSET,  # noqa: A002 (its public name)
    ) -> None:
        self.action: ActionKind = action
        self.total = total
        self.requested_by = requested_by
        self.filter = None if filter is UNSET else filter
        self.executions: list[UUID] = []
        self.through = 0
        self.done = 0
        self.skipped = 0
        self.failed = 0
        self.cancel_requested = False
        self.outcome: ActionOutcome | None = None

    @classmethod
    def request(
        cls,
        action_id: UUID,
        action: ActionKind,
        executions: Sequence[UUID],
        *,
        requested_by: str,
        at: datetime,
        filter: str | None = None,  # noqa: A002 (its public name)
    ) -> "ExecutionAction":
        """A new action; each of ``executions`` comes once."""
        distinct = list(dict.fromkeys(executions))
        made: ExecutionAction = cls._create(
            cls.Requested,
            id=action_id,
            timestamp=at,
            action=action,
            total=len(distinct),
            requested_by=requested_by,
            filter=UNSET if filter is None else filter,
        )
        for first in range(0, len(distinct), SELECTED_AT_ONCE):
            some = distinct[first : first + SELECTED_AT_ONCE]
            made.trigger_event(cls.Selected, timestamp=at, executions=some)
        return made

    def progress(self, done: int, passed: Sequence[PassedOver], *, at: datetime) -> None:
        """Record what became of the next executions; the action ends with the last of them."""
        if self.outcome is not None:
            return
        count = done + len(passed)
        if count:
            self.trigger_event(
                self.Progressed,
                timestamp=at,
                through=self.through + count,
                done=done,
                passed=list(passed),
            )
        if self.through >= self.total:
            self.trigger_event(self.Ended, timestamp=at, outcome="completed")
        elif self.cancel_requested:
            self.trigger_event(self.Ended, timestamp=at, outcome="cancelled")

    def request_cancel(self, *, requested_by: str, at: datetime) -> None:
        """Let it be done to no more; asking again changes nothing.

        Raises :class:`ActionEndedError`.
        """
        if self.outcome is not None:
            raise ActionEndedError(self.id, self.outcome)
        if not self.cancel_requested:
            self.trigger_event(self.CancelRequested, timestamp=at, requested_by=requested_by)

    @event(Selected)
    def _apply_selected(self, executions: list[UUID]) -> None:
        self.executions.extend(executions)

    @event(Progressed)
    def _apply_progressed(self, through: int, done: int, passed: list[PassedOver]) -> None:
        self.through = through
        self.done += done
        skipped = sum(each.outcome == "skipped" for each in passed)
        self.skipped += skipped
        self.failed += len(passed) - skipped

    @event(CancelRequested)
    def _apply_cancel_requested(self) -> None:
        self.cancel_requested = True

    @event(Ended)
    def _apply_ended(self, outcome: ActionOutcome) -> None:
        self.outcome = outcome


register(ExecutionAction)
