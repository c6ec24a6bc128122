"""Loading aggregates and saving what they decide: the one place where events are appended."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar, cast
from uuid import UUID

from eventsourcing.domain import BaseAggregate

from nbledger_application import queue
from nbledger_application.queue import NO_LIMITS, ShareLimits
from nbledger_domain import events
from nbledger_domain.events import DomainEvent
from nbledger_infrastructure.aggregates import Loaded, load
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    EventStore,
    IdempotencyKey,
    Metadata,
    NewEvent,
    RecordConflictError,
    Stream,
)

A = TypeVar("A", bound=BaseAggregate[UUID])
R = TypeVar("R")

ATTEMPTS: Final = 10
"""How often a decision is made anew because somebody else was quicker."""


async def append(
    store: EventStore,
    stream: Stream,
    decided: Sequence[DomainEvent],
    metadata: Metadata,
    *,
    event_ids: Sequence[UUID] | None = None,
    subject_unchanged_since: int | None = None,
    limits: ShareLimits = NO_LIMITS,
    key: IdempotencyKey | None = None,
) -> AppendResult:
    """Append ``decided`` to its stream, right after the version that it was decided on.

    The queue of executions follows in the same transaction, and so does the ``key`` of a request;
    a request or a claim is refused (:class:`LimitReachedError`) where it comes to one of
    ``limits``.
    ``event_ids`` are given by callers that may have to repeat the append. Raises what
    :meth:`EventStore.append` raises.
    """
    ids = event_ids or [new_id() for _ in decided]
    return await store.append(
        stream,
        [
            NewEvent(
                event_id=event_id,
                type=event.TYPE,
                data=events.encode(event),
                occurred_at=event.timestamp,
            )
            for event_id, event in zip(ids, decided, strict=True)
        ],
        expected_version=decided[0].originator_version - 1,
        metadata=metadata,
        subject_unchanged_since=subject_unchanged_since,
        queue=queue.change_of(decided, limits),
        key=key,
    )


async def save(
    store: EventStore,
    aggregate: BaseAggregate[UUID],
    stream: Stream,
    metadata: Metadata,
    *,
    subject_unchanged_since: int | None = None,
    limits: ShareLimits = NO_LIMITS,
    key: IdempotencyKey | None = None,
) -> AppendResult | None:
    """Append what ``aggregate`` decided; ``None`` when it decided nothing.

    Raises :class:`RecordConflictError` when somebody else has appended to the stream since
    (or, with ``subject_unchanged_since``, to anything of the same subject), and
    :class:`KeyUsedError` when an earlier request came with the same ``key``; the aggregate is
    then of no further use.
    """
    decided = collect(aggregate)
    if not decided:
        return None
    return await append(
        store,
        stream,
        decided,
        metadata,
        subject_unchanged_since=subject_unchanged_since,
        limits=limits,
        key=key,
    )


def collect(aggregate: BaseAggregate[UUID]) -> Sequence[DomainEvent]:
    """The events that ``aggregate`` has decided and nobody has collected yet."""
    return cast("Sequence[DomainEvent]", aggregate.collect_events())


async def until_saved(decide: Callable[[], Awaitable[R]]) -> R:
    """Call ``decide``, which reads and saves, again whenever somebody else was quicker.

    Raises what it raises, and :class:`RecordConflictError` after ten lost races.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return await decide()
        except RecordConflictError:
            continue
    return await decide()


async def update(
    store: EventStore,
    aggregate_class: type[A],
    stream_id: UUID,
    change: Callable[[A], R],
    metadata: Metadata,
) -> tuple[Loaded[A], R] | None:
    """As :func:`update_loaded`; ``None`` where the store has no such aggregate, or erased it."""

    async def read() -> Loaded[A]:
        loaded = await load(store, aggregate_class, stream_id)
        if loaded is None:
            raise _AbsentError
        return loaded

    try:
        return await update_loaded(store, read, change, metadata)
    except _AbsentError:
        return None


async def update_loaded(
    store: EventStore,
    read: Callable[[], Awaitable[Loaded[A]]],
    change: Callable[[A], R],
    metadata: Metadata,
    *,
    guard: Callable[[], Awaitable[int | None]] | None = None,
    key_of: Callable[[R], IdempotencyKey | None] | None = None,
) -> tuple[Loaded[A], R]:
    """Read, ``change``, save; again from the start whenever somebody else was quicker.

    ``guard`` is called before each read and tells the position after which nothing of the same
    subject may have been appended when the change is saved (``None``: no matter). ``key_of`` gives
    the key of the request by what ``change`` returned.

    Returns the aggregate as saved with what ``change`` returned. Raises what ``read`` and
    ``change`` raise, and :class:`RecordConflictError` after ten lost races.
    """

    async def once() -> tuple[Loaded[A], R]:
        unchanged_since = None if guard is None else await guard()
        loaded = await read()
        result = change(loaded.aggregate)
        appended = await save(
            store,
            loaded.aggregate,
            loaded.stream,
            metadata,
            subject_unchanged_since=unchanged_since,
            key=None if key_of is None else key_of(result),
        )
        if appended is not None:
            loaded.position = appended.position
        return loaded, result

    return await until_saved(once)


class _AbsentError(Exception):
    """The store has no such aggregate."""
