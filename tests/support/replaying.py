"""Replaying an aggregate from its events as the store would give them back."""

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from eventsourcing.domain import BaseAggregate

from nbledger_domain import events
from nbledger_domain.events import DomainEvent


def stored_and_read(aggregate: BaseAggregate[UUID]) -> list[DomainEvent]:
    """The aggregate's pending events, after a way through their stored form."""
    decided = cast("Sequence[DomainEvent]", aggregate.collect_events())
    return [
        events.decode(
            event.TYPE,
            events.encode(event),
            stream_id=event.originator_id,
            version=event.originator_version,
            occurred_at=event.timestamp,
        )
        for event in decided
    ]


def assert_replays(live: BaseAggregate[UUID], history: Sequence[DomainEvent]) -> None:
    """History gives the live state again, and its versions have no gap."""
    replayed: Any = None
    for event in history:
        replayed = event.mutate(replayed)
    assert replayed == live
    assert [event.originator_version for event in history] == list(range(1, len(history) + 1))
