"""Recorded histories: whole streams as lines of JSON, and the state that each adds up to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate

from nbledger_domain.dataset import Dataset
from nbledger_domain.events import decode
from nbledger_domain.execution import Execution
from nbledger_domain.library import Library
from nbledger_domain.notebook import Notebook

FOLDER = Path(__file__).parents[1] / "unit" / "domain" / "golden" / "histories"

KINDS = (Notebook, Execution, Dataset, Library)
"""What has a history; their events are known once they are imported."""


class Line(msgspec.Struct, frozen=True, rename="camel"):
    """A stored event."""

    stream_id: UUID
    version: int
    type: str
    occurred_at: datetime
    data: msgspec.Raw


def fold(history: bytes) -> BaseAggregate[UUID]:
    """The aggregate that the lines of a history add up to."""
    aggregate: BaseAggregate[UUID] | None = None
    for text in history.splitlines():
        line = msgspec.json.decode(text, type=Line)
        event = decode(
            line.type,
            bytes(line.data),
            stream_id=line.stream_id,
            version=line.version,
            occurred_at=line.occurred_at,
        )
        aggregate = event.mutate(aggregate)
    assert isinstance(aggregate, KINDS)
    return aggregate


def state_of(aggregate: BaseAggregate[UUID]) -> dict[str, Any]:
    """All that the aggregate knows, as plain data."""
    members = {"kind": type(aggregate).__name__} | {
        name.removeprefix("_"): value
        for name, value in vars(aggregate).items()
        if name != "_pending_events"
    }
    state: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(members))
    return state


def lost(kept: Any, now: Any, place: str = "") -> list[str]:
    """Where ``now`` does not say what ``kept`` says; it may say more."""
    if isinstance(kept, Mapping) and isinstance(now, Mapping):
        return [
            fault
            for name, value in kept.items()
            for fault in (
                lost(value, now[name], f"{place}/{name}")
                if name in now
                else [f"{place}/{name} is missing"]
            )
        ]
    if isinstance(kept, list) and isinstance(now, list) and len(kept) == len(now):
        return [
            fault
            for number, (one, other) in enumerate(zip(kept, now, strict=True))
            for fault in lost(one, other, f"{place}/{number}")
        ]
    return [] if kept == now else [f"{place} is {now!r} instead of {kept!r}"]
