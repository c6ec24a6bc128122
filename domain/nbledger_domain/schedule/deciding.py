"""What becomes of the firings that are due: a function of the schedule, its runs and the time."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.schedule.firing import FiringOutcome, SkipReason
from nbledger_domain.schedule.settings import ScheduleSettings, firing_id_of

MOST_QUEUED: Final = 1000
"""So many firings of one schedule wait at most."""

MOST_COUNTED: Final = 1000
"""Of times that are told together so many are counted."""


class Standing(msgspec.Struct, kw_only=True):
    """How far a schedule is.

    Every time up to ``cursor`` is dealt with. What was due up to ``skip_through``, if there is such
    a moment, came while it was paused. ``running`` and ``queued`` count its firings, ``runs`` those
    that have run or wait, other than on request.
    """

    cursor: datetime
    skip_through: datetime | None = None
    running: int = 0
    queued: int = 0
    runs: int = 0


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the time ``due_at``, or of every time from there to ``through``."""

    firing_id: UUID
    due_at: datetime
    outcome: FiringOutcome
    reason: SkipReason | None = None
    through: datetime | None = None
    count: int | None = None

    @property
    def last(self) -> datetime:
        """Up to when it speaks."""
        return self.through or self.due_at


def decide(
    schedule_id: UUID, settings: ScheduleSettings, standing: Standing, now: datetime, *, most: int
) -> list[Decision]:
    """What becomes of all that is due by ``now``, in order; at most ``most`` decisions.

    Moves ``standing`` on.
    """
    decisions: list[Decision] = []
    late = timedelta(seconds=settings.catch_up_seconds + settings.jitter_seconds)
    while len(decisions) < most and not exhausted(settings, standing):
        due = settings.first_after(standing.cursor)
        if due is None:
            break
        firing_id = firing_id_of(schedule_id, due)
        if settings.fires_at(firing_id, due) > now:
            break
        if standing.skip_through is not None and due <= standing.skip_through:
            skipped = _range(settings, firing_id, due, standing.skip_through)
            decision = msgspec.structs.replace(skipped, reason="paused")
        elif now - due >= late:
            missed = _range(settings, firing_id, due, now - late)
            decision = msgspec.structs.replace(missed, outcome=FiringOutcome.MISSED)
        else:
            decision = _one(settings, firing_id, due, standing)
        decisions.append(decision)
        standing.cursor = decision.last
    return decisions


def exhausted(settings: ScheduleSettings, standing: Standing) -> bool:
    """Whether as many have run, or wait, as the schedule allows."""
    return settings.max_runs is not None and standing.runs >= settings.max_runs


def _range(
    settings: ScheduleSettings, firing_id: UUID, due: datetime, through: datetime
) -> Decision:
    """All times from ``due`` to ``through`` in one."""
    count = 1
    following = settings.first_after(due)
    while following is not None and following <= through and count <= MOST_COUNTED:
        count += 1
        following = settings.first_after(following)
    alone = count == 1
    return Decision(
        firing_id=firing_id,
        due_at=due,
        outcome=FiringOutcome.SKIPPED,
        through=None if alone else through,
        count=None if alone or count > MOST_COUNTED else count,
    )


def _one(
    settings: ScheduleSettings, firing_id: UUID, due: datetime, standing: Standing
) -> Decision:
    outcome, reason = overlapping(settings, standing)
    if outcome is FiringOutcome.STARTED:
        standing.running += 1
    elif outcome is FiringOutcome.QUEUED:
        standing.queued += 1
    if outcome in (FiringOutcome.STARTED, FiringOutcome.QUEUED):
        standing.runs += 1
    return Decision(firing_id=firing_id, due_at=due, outcome=outcome, reason=reason)


def overlapping(
    settings: ScheduleSettings, standing: Standing
) -> tuple[FiringOutcome, SkipReason | None]:
    """What becomes of one more firing beside those that run and wait."""
    idle = not standing.running and not standing.queued
    if idle or settings.overlap == "allow":
        return FiringOutcome.STARTED, None
    if settings.overlap == "skip":
        return FiringOutcome.SKIPPED, "overlap"
    most = 1 if settings.overlap == "queueOne" else MOST_QUEUED
    if settings.overlap != "cancelPrevious" and standing.queued >= most:
        return FiringOutcome.SKIPPED, "queue_full"
    return FiringOutcome.QUEUED, None
