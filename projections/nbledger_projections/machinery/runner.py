"""Running a projection: batches of events folded into rows, the checkpoint moved with them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import asyncpg
import structlog

from nbledger_infrastructure.artifacts.store import ArtifactStoreUnavailableError
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint, CheckpointMovedError
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    PooledConnection,
    acquire,
)
from nbledger_infrastructure.postgres.event_store import EventTail, RecordedEvent
from nbledger_projections.machinery.decoding import check_known

log = structlog.get_logger(__name__)

BATCH_EVENTS = 500
GATHER_SECONDS = 0.1
"""A run tells of each step: a few of them at once cost every consumer what one alone does. Nobody
waits for it, since what is read by its key is up to date without."""
WRITE_TIMEOUT = 60.0
"""Seconds that folding and writing one batch may take."""

# Somebody else does the same work, or a rebuild has just replaced the tables: not a failure.
_CONTENDED = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)


class Projection(Protocol):
    """Tables folded from events, with the rows in memory that it has lately worked on.

    ``tables`` come in the order in which queries for them read them. ``interests`` are the types
    of events that change them: others are passed over.

    For each batch: ``load``, ``apply`` for every event of interest, ``save``, and once that is
    committed ``settle``. After any failure ``reset``.
    """

    name: str
    tables: tuple[str, ...]
    interests: frozenset[str]

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change, or depend on, into memory."""

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""

    def settle(self) -> None:
        """What was saved is committed."""

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""


class PoisonedEventError(Exception):
    """An event cannot be folded; nothing after it may be, so the projection stands still."""

    def __init__(self, recorded: RecordedEvent, index: int) -> None:
        super().__init__(f"{recorded.type} at position {recorded.position} cannot be folded")
        self.position = recorded.position
        self.index = index


async def project(
    connection: PooledConnection, projection: Projection, events: Sequence[RecordedEvent]
) -> None:
    """Fold ``events`` and write the rows, in the transaction of the connection.

    Raises :class:`PoisonedEventError`; whatever is raised, ``projection`` must then be reset.
    """
    interests = projection.interests
    telling = [recorded for recorded in events if recorded.type in interests]
    if telling:
        await projection.load(connection, telling)
    for index, recorded in enumerate(events):
        try:
            if recorded.type in interests:
                projection.apply(recorded)
            else:
                check_known(recorded)
        except Exception as error:
            raise PoisonedEventError(recorded, index) from error
    if telling:
        await projection.save(connection)


async def advance(
    pool: Pool, projection: Projection, events: Sequence[RecordedEvent], expected: Checkpoint
) -> Checkpoint:
    """Fold a batch that begins right after ``expected``, all or nothing.

    Raises :class:`CheckpointMovedError` when the checkpoint is not there, and
    :class:`PoisonedEventError`. After any error ``projection`` has been reset.
    """
    position = events[-1].position
    try:
        async with (
            acquire(pool) as connection,
            asyncio.timeout(WRITE_TIMEOUT),
            connection.transaction(),
        ):
            await checkpoints.lock_at(connection, projection.name, expected)
            await project(connection, projection, events)
            await checkpoints.move(connection, projection.name, position)
    except BaseException:
        projection.reset()
        raise
    projection.settle()
    return Checkpoint(position, expected.generation)


async def run_projection(
    pool: Pool, projection: Projection, on_started: Callable[[], None]
) -> None:
    """Keep a projection up to date until cancelled, whatever happens to the database.

    An event that cannot be folded stops it: that is logged as an error and tried again, ever
    more slowly, so that a new version of the software can go on from there.
    """

    async def follow(backoff: Backoff) -> None:
        projection.reset()
        async with acquire(pool) as connection:
            checkpoint = await checkpoints.ensure(connection, projection.name)
        on_started()
        async with _tail(pool, checkpoint) as tail:
            while True:
                batch = await tail.next_batch()
                try:
                    checkpoint = await advance(pool, projection, batch, checkpoint)
                except PoisonedEventError as error:
                    if error.index:
                        await advance(pool, projection, batch[: error.index], checkpoint)
                    raise
                backoff.reset()

    await supervise(projection.name, follow)


async def run_reactor(
    pool: Pool,
    name: str,
    react: Callable[[Sequence[RecordedEvent]], Awaitable[None]],
    on_started: Callable[[], None],
) -> None:
    """Hand every batch of events to ``react`` until cancelled; at least once each, in order.

    The checkpoint moves after ``react`` has returned; when it raises, the batch comes again.
    """

    async def follow(backoff: Backoff) -> None:
        async with acquire(pool) as connection:
            checkpoint = await checkpoints.ensure(connection, name)
        on_started()
        async with _tail(pool, checkpoint) as tail:
            while True:
                batch = await tail.next_batch()
                await react(batch)
                position = batch[-1].position
                async with acquire(pool) as connection, connection.transaction():
                    await checkpoints.lock_at(connection, name, checkpoint)
                    await checkpoints.move(connection, name, position)
                checkpoint = Checkpoint(position, checkpoint.generation)
                backoff.reset()

    await supervise(name, follow)


def _tail(pool: Pool, checkpoint: Checkpoint) -> EventTail:
    return EventTail(pool, checkpoint.position, BATCH_EVENTS, gather_seconds=GATHER_SECONDS)


async def supervise(name: str, follow: Callable[[Backoff], Awaitable[None]]) -> None:
    """Run ``follow`` again whenever it fails, after a pause that grows until it resets it."""
    backoff = Backoff(0.1, 30.0)
    while True:
        try:
            await follow(backoff)
        except (CheckpointMovedError, *_CONTENDED) as error:
            log.debug("consumer begins again", consumer=name, reason=type(error).__name__)
        except (DatabaseUnavailableError, *UNAVAILABLE) as error:
            log.warning("consumer interrupted", consumer=name, error=type(error).__name__)
        except ArtifactStoreUnavailableError as error:
            log.warning("consumer interrupted", consumer=name, error=error.reason)
        except Exception:
            log.exception("consumer stopped", consumer=name, failures=backoff.failures + 1)
        await backoff.wait()
