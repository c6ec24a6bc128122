"""The event store: group commit, reading, tailing, erasing and auditing."""

from nbledger_infrastructure.event_store.store import EventStore
from nbledger_infrastructure.event_store.tail import EventTail
from nbledger_infrastructure.event_store.types import (
    AppendResult,
    DuplicateEventError,
    InvalidEventError,
    Metadata,
    NewEvent,
    RecordConflictError,
    RecordedEvent,
    StoreUnavailableError,
    Stream,
)

__all__ = [
    "AppendResult",
    "DuplicateEventError",
    "EventStore",
    "EventTail",
    "InvalidEventError",
    "Metadata",
    "NewEvent",
    "RecordConflictError",
    "RecordedEvent",
    "StoreUnavailableError",
    "Stream",
]
