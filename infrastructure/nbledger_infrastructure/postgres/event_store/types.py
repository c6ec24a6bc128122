"""What goes into the event store and what comes out of it, and how it refuses."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec

from nbledger_domain.events import EVENT_TYPES, EventTypes
from nbledger_infrastructure.postgres.database import DatabaseUnavailableError

if TYPE_CHECKING:
    import asyncpg


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Who caused an event, and in the course of what.

    ``actor`` is the id of a principal, or the name of a part of the service (`actors.py`); never
    the name of a person, as metadata is not erased. ``on_behalf_of`` is who asked for it, where the
    actor is a part of the service.
    """

    actor: str
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    request_id: str | None = None
    on_behalf_of: str | None = None

    @property
    def responsible(self) -> str:
        """Who wanted it."""
        return self.on_behalf_of or self.actor


class NewEvent(msgspec.Struct, frozen=True):
    """An event to append. `data` is a JSON object in UTF-8; `occurred_at` knows its zone."""

    event_id: UUID
    type: str
    data: bytes
    occurred_at: datetime


class Stream(msgspec.Struct, frozen=True):
    """A stream and what it belongs to; `subject_id` is the notebook that its events concern."""

    stream_id: UUID
    subject_id: UUID
    tenant_id: UUID
    project_id: UUID


class QueueChange(msgspec.Struct, frozen=True):
    """What an append makes of the row of its stream in table `execution_queue`.

    It is there from its first state, which comes with the kernel type and the priority, until it
    has `ended`. The append is refused where the tenant, or the project, has as many rows already
    as its limit says: waiting ones for one that comes in, claimed ones for one that is claimed.

    `notebook_limit` is for the append of a notebook: how many of its runs may be claimed at once;
    0 is no limit.
    """

    state: Literal["waiting", "claimed", "ended"] | None
    kernel_type: str | None = None
    priority: str | None = None
    tenant_limit: int | None = None
    project_limit: int | None = None
    notebook_limit: int | None = None


Limit = Literal[
    "maxRunningPerTenant",
    "maxRunningPerProject",
    "maxConcurrentRuns",
    "maxWaitingPerTenant",
    "maxWaitingPerProject",
]
"""What an append may be refused for: a limit by its public name."""


class IdempotencyKey(msgspec.Struct, frozen=True):
    """The key of the request that makes an append, written to table `idempotency_key` with it.

    It is unique within the tenant of the stream, `principal_id` and `operation`. `key_digest` and
    `fingerprint` are SHA-256, of the key and of the request; `answer` is text.
    """

    principal_id: UUID
    operation: str
    key_digest: bytes
    fingerprint: bytes
    answer: str


class AppendResult(msgspec.Struct, frozen=True):
    """Position and version of the last event of an append."""

    position: int
    version: int


class RecordedEvent(msgspec.Struct, frozen=True):
    """An event as the store has it. `data` is None once it has been erased.

    `type` is what the event is read as. `stored_type` is the type that its data was written as,
    an earlier version of it or the same.
    """

    position: int
    stream_id: UUID
    version: int
    event_id: UUID
    type: str
    subject_id: UUID
    tenant_id: UUID
    project_id: UUID
    data: bytes | None
    metadata: Metadata
    occurred_at: datetime
    recorded_at: datetime
    digest: bytes
    chain: bytes
    stored_type: str


class Change(msgspec.Struct, frozen=True):
    """That a stream has moved: where its event is, of which type, and whose."""

    position: int
    stream_id: UUID
    version: int
    type: str
    tenant_id: UUID
    project_id: UUID


COLUMNS = ", ".join(RecordedEvent.__struct_fields__[:-1])
"""The columns of table `event`, in the order that `recorded_event` takes them."""

_decode_metadata = msgspec.json.Decoder(Metadata).decode


def recorded_event(
    row: asyncpg.Record | tuple[Any, ...], types: EventTypes = EVENT_TYPES
) -> RecordedEvent:
    """Make a `RecordedEvent` of a row that was selected with `COLUMNS`."""
    (
        position,
        stream_id,
        version,
        event_id,
        stored_type,
        subject_id,
        tenant_id,
        project_id,
        data,
        metadata,
        occurred_at,
        recorded_at,
        digest,
        chain,
    ) = row
    return RecordedEvent(
        position,
        stream_id,
        version,
        event_id,
        types.current(stored_type),
        subject_id,
        tenant_id,
        project_id,
        None if data is None else data.encode(),
        _decode_metadata(metadata),
        occurred_at,
        recorded_at,
        digest,
        chain,
        stored_type,
    )


def change(row: asyncpg.Record) -> Change:
    """Make a `Change` of a row of its fields, in their order."""
    return Change(*row)


class RecordConflictError(Exception):
    """The stream has moved on since the caller read it; nothing was appended.

    Read it again and decide anew. When the append was guarded by `subject_unchanged_since`,
    `actual_version` may equal `expected_version`: another stream of the subject moved.
    """

    def __init__(self, stream_id: UUID, expected_version: int, actual_version: int) -> None:
        super().__init__(
            f"stream {stream_id} is at version {actual_version}, expected {expected_version}"
        )
        self.stream_id = stream_id
        self.expected_version = expected_version
        self.actual_version = actual_version


class DuplicateEventError(Exception):
    """An event of this append is in the store already; nothing was appended.

    After a `StoreUnavailableError` this is good news: the first attempt had succeeded.
    """

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(f"an event for stream {stream_id} is in the store already")
        self.stream_id = stream_id


class KeyUsedError(Exception):
    """An earlier append came with the same idempotency key; nothing was appended."""

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(f"the key of an append to stream {stream_id} has been used")
        self.stream_id = stream_id


class LimitReachedError(Exception):
    """The tenant, project or notebook has as many runs as it may have; nothing was appended."""

    def __init__(self, stream_id: UUID, limit: Limit) -> None:
        super().__init__(f"{limit} is reached, stream {stream_id} has to wait")
        self.stream_id = stream_id
        self.limit: Limit = limit


class InvalidEventError(Exception):
    """The database cannot store this append, whoever retries it: its data is not JSON, say."""

    def __init__(self, stream_id: UUID, reason: str) -> None:
        super().__init__(f"an event for stream {stream_id} cannot be stored: {reason}")
        self.stream_id = stream_id


class StoreUnavailableError(DatabaseUnavailableError):
    """The store cannot be reached, or went away before it answered.

    Where an append raises this with `outcome_unknown`, its events may or may not be recorded.
    It is safe to append the *same* events (same event ids) again: if they had been recorded,
    `DuplicateEventError` says so.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown
