"""The event store: group commit, reading, tailing, erasing and auditing."""

from nbledger_infrastructure.postgres.event_store.store import EventStore
from nbledger_infrastructure.postgres.event_store.tail import EventTail
from nbledger_infrastructure.postgres.event_store.types import (
    AppendResult,
    DuplicateEventError,
    IdempotencyKey,
    InvalidEventError,
    KeyUsedError,
    Limit,
    LimitReachedError,
    Metadata,
    NewEvent,
    QueueChange,
    RecordConflictError,
    RecordedEvent,
    StoreUnavailableError,
    Stream,
)
from nbledger_infrastructure.postgres.event_store.watch import Follower, StreamWatch

__all__ = [
    "AppendResult",
    "DuplicateEventError",
    "EventStore",
    "EventTail",
    "Follower",
    "IdempotencyKey",
    "InvalidEventError",
    "KeyUsedError",
    "Limit",
    "LimitReachedError",
    "Metadata",
    "NewEvent",
    "QueueChange",
    "RecordConflictError",
    "RecordedEvent",
    "StoreUnavailableError",
    "Stream",
    "StreamWatch",
]
