"""The schedule of a notebook: when it runs by itself, and whether it does at the moment."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal
from uuid import UUID

from eventsourcing.domain import BaseAggregate, CanInitAggregate, event
from msgspec import UNSET, UnsetType

from nbledger_domain.errors import ScheduleNotFoundError
from nbledger_domain.events import DomainEvent, register
from nbledger_domain.schedule.settings import ScheduleSettings

PauseReason = Literal["requested", "failures"]
EndReason = Literal["end", "max_runs"]


class ScheduleState(StrEnum):
    """Whether a schedule fires."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    REMOVED = "removed"


class Schedule(BaseAggregate[UUID]):
    """The schedule of one notebook. Its firings are streams of their own."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a schedule."""

    class Set(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """The notebook was given a schedule."""

        TYPE: ClassVar[str] = "schedule.set.v1"
        originator_topic: str
        notebook_id: UUID
        settings: ScheduleSettings
        set_by: str

    class Changed(Event, frozen=True, kw_only=True):
        """The schedule became another one, or is there again after it was removed."""

        TYPE: ClassVar[str] = "schedule.changed.v1"
        settings: ScheduleSettings
        set_by: str

    class Paused(Event, frozen=True, kw_only=True):
        """It fires no more until it is resumed: on request, or after so many failed runs."""

        TYPE: ClassVar[str] = "schedule.paused.v1"
        reason: PauseReason
        note: str | UnsetType = UNSET
        failures: int | UnsetType = UNSET

    class Resumed(Event, frozen=True, kw_only=True):
        """It fires again; what was due in between is skipped."""

        TYPE: ClassVar[str] = "schedule.resumed.v1"
        note: str | UnsetType = UNSET

    class Ended(Event, frozen=True, kw_only=True):
        """It is never due again."""

        TYPE: ClassVar[str] = "schedule.ended.v1"
        reason: EndReason

    class Removed(Event, frozen=True, kw_only=True):
        """The notebook has no schedule any more."""

        TYPE: ClassVar[str] = "schedule.removed.v1"

    class RunRequested(Event, frozen=True, kw_only=True):
        """Somebody asked for a run now."""

        TYPE: ClassVar[str] = "schedule.run-requested.v1"
        firing_id: UUID
        due_at: datetime
        requested_by: str

    class BackfillRequested(Event, frozen=True, kw_only=True):
        """Somebody asked for what was ``due`` at these times."""

        TYPE: ClassVar[str] = "schedule.backfill-requested.v1"
        due: list[datetime]
        requested_by: str

    @event(Set)
    def __init__(self, *, notebook_id: UUID, settings: ScheduleSettings, set_by: str) -> None:
        self.notebook_id = notebook_id
        self.settings = settings
        self.set_by = set_by
        self.state = ScheduleState.ACTIVE
        self.pause_reason: PauseReason | None = None
        self.note: str | None = None

    @classmethod
    def create(
        cls,
        schedule_id: UUID,
        *,
        notebook_id: UUID,
        settings: ScheduleSettings,
        set_by: str,
        at: datetime,
    ) -> "Schedule":
        """A new schedule, which fires from now on."""
        return cls._create(
            cls.Set,
            id=schedule_id,
            timestamp=at,
            notebook_id=notebook_id,
            settings=settings,
            set_by=set_by,
        )

    def change(self, settings: ScheduleSettings, *, set_by: str, at: datetime) -> None:
        """Make it another one; what it is already is no change. A paused one stays paused."""
        if self.state is ScheduleState.REMOVED or settings != self.settings:
            self.trigger_event(self.Changed, timestamp=at, settings=settings, set_by=set_by)

    def remove(self, *, at: datetime) -> None:
        """Take it away; one that is removed stays so."""
        if self.state is not ScheduleState.REMOVED:
            self.trigger_event(self.Removed, timestamp=at)

    def pause(
        self,
        reason: PauseReason,
        *,
        at: datetime,
        note: str | None = None,
        failures: int | None = None,
    ) -> None:
        """Let it fire no more for now. Raises :class:`ScheduleNotFoundError`."""
        self.must_exist()
        if self.state is ScheduleState.ACTIVE:
            self.trigger_event(
                self.Paused,
                timestamp=at,
                reason=reason,
                note=note or UNSET,
                failures=UNSET if failures is None else failures,
            )

    def resume(self, *, at: datetime, note: str | None = None) -> None:
        """Let it fire again. Raises :class:`ScheduleNotFoundError`."""
        self.must_exist()
        if self.state is ScheduleState.PAUSED:
            self.trigger_event(self.Resumed, timestamp=at, note=note or UNSET)

    def end(self, reason: EndReason, *, at: datetime) -> None:
        """Record that it is never due again."""
        if self.state is ScheduleState.ACTIVE:
            self.trigger_event(self.Ended, timestamp=at, reason=reason)

    def request_run(
        self, firing_id: UUID, due_at: datetime, *, requested_by: str, at: datetime
    ) -> None:
        """Ask for a run now. Raises :class:`ScheduleNotFoundError`."""
        self.must_exist()
        self.trigger_event(
            self.RunRequested,
            timestamp=at,
            firing_id=firing_id,
            due_at=due_at,
            requested_by=requested_by,
        )

    def request_backfill(self, due: Sequence[datetime], *, requested_by: str, at: datetime) -> None:
        """Ask for what was due at these times. Raises :class:`ScheduleNotFoundError`."""
        self.must_exist()
        if due:
            self.trigger_event(
                self.BackfillRequested, timestamp=at, due=list(due), requested_by=requested_by
            )

    def must_exist(self) -> None:
        """Raise :class:`ScheduleNotFoundError` where it was removed."""
        if self.state is ScheduleState.REMOVED:
            raise ScheduleNotFoundError(self.notebook_id)

    @event(Changed)
    def _apply_changed(self, settings: ScheduleSettings, set_by: str) -> None:
        self.settings = settings
        self.set_by = set_by
        if self.state is not ScheduleState.PAUSED:
            self.state = ScheduleState.ACTIVE

    @event(Paused)
    def _apply_paused(self, reason: PauseReason, note: str | UnsetType) -> None:
        self.state = ScheduleState.PAUSED
        self.pause_reason = reason
        self.note = None if note is UNSET else note

    @event(Resumed)
    def _apply_resumed(self) -> None:
        self.state = ScheduleState.ACTIVE
        self.pause_reason = None
        self.note = None

    @event(Ended)
    def _apply_ended(self) -> None:
        self.state = ScheduleState.ENDED

    @event(Removed)
    def _apply_removed(self) -> None:
        self.state = ScheduleState.REMOVED
        self.pause_reason = None
        self.note = None


register(Schedule)
