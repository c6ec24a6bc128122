"""Changes that wait to become a run, and when they do."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.automation.chains import NO_CHAIN, Chain, merged
from nbledger_domain.automation.settings import AutomationSettings, ChangeKind

MOST_KEPT: Final = 32
"""So many changes are kept apart; beyond that the oldest of a kind are told as one."""


class TriggeringChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change, or ``count`` of them, of which all but the first event tell of the newest.

    ``event_id``, ``position`` and ``at`` are those of the event that tells of it; ``chains`` are
    the notebooks whose runs led to it.
    """

    kind: ChangeKind
    first_event_id: UUID
    first_at: datetime
    event_id: UUID
    position: int
    at: datetime
    dataset_id: UUID | None = None
    dataset_version: int | None = None
    chains: tuple[Chain, ...] = NO_CHAIN
    count: int = 1
    correlation_id: str | None = None
    traceparent: str | None = None

    def by(self, chains: Iterable[Chain]) -> "TriggeringChange":
        """The same change, having come by these chains."""
        return msgspec.structs.replace(self, chains=tuple(chains))

    def by_itself(self) -> "TriggeringChange":
        """The same change, beginning with the event that tells of it."""
        return msgspec.structs.replace(self, first_event_id=self.event_id)

    def followed_by(self, later: "TriggeringChange") -> "TriggeringChange":
        """Both as one."""
        return msgspec.structs.replace(
            later,
            first_event_id=self.first_event_id,
            first_at=self.first_at,
            chains=tuple(merged([self.chains, later.chains])),
            count=self.count + later.count,
        )


Changes = list[TriggeringChange]
"""Changes in the order in which they came, at least one."""


def with_change(changes: Sequence[TriggeringChange], change: TriggeringChange) -> Changes:
    """All of them, with one more."""
    found = [*changes, change]
    while len(found) > MOST_KEPT:
        _merge_oldest(found)
    return found


def _merge_oldest(changes: Changes) -> None:
    for index, change in enumerate(changes):
        for other, later in enumerate(changes[index + 1 :], index + 1):
            if (later.kind, later.dataset_id) == (change.kind, change.dataset_id):
                changes[index] = change.followed_by(later)
                del changes[other]
                return


def after(changes: Sequence[TriggeringChange], position: int) -> Changes:
    """What is not yet decided on once all up to this position is."""
    return [change for change in changes if change.position > position]


def wanted(
    changes: Sequence[TriggeringChange], settings: AutomationSettings, dataset_id: UUID | None
) -> Changes:
    """Those that still matter where the notebook is bound to this dataset.

    They begin with the same event, by which whoever decides on them decides on the same.
    """
    found = [
        change
        for change in changes
        if change.kind in settings.on and change.dataset_id in (None, dataset_id)
    ]
    if found:
        first = changes[0].first_event_id
        found[0] = msgspec.structs.replace(found[0], first_event_id=first)
    return found


def newest(changes: Sequence[TriggeringChange]) -> TriggeringChange:
    """The one that came last."""
    return max(changes, key=lambda change: change.position)


def count(changes: Sequence[TriggeringChange]) -> int:
    """How many there are."""
    return sum(change.count for change in changes)


def quiet_at(changes: Sequence[TriggeringChange], settings: AutomationSettings) -> datetime:
    """When enough time has passed since the last change, or since the first."""
    last = max(change.at for change in changes)
    first = min(change.first_at for change in changes)
    return min(
        last + timedelta(seconds=settings.quiet_seconds),
        first + timedelta(seconds=settings.longest_wait),
    )


def due_at(
    changes: Sequence[TriggeringChange], settings: AutomationSettings, started_at: datetime | None
) -> datetime:
    """When they become a run; ``started_at`` is when the last one before it started."""
    due = quiet_at(changes, settings)
    if started_at is None:
        return due
    return max(due, started_at + timedelta(seconds=settings.min_interval_seconds))
