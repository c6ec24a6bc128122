"""Group commit: appends that wait together are written in one statement and one commit.

While a batch is under way the next one gathers, so batches grow with the load, and an append
that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import structlog

from nbledger_infrastructure.postgres.database import CONNECT_TIMEOUT, give_back_broken
from nbledger_infrastructure.postgres.event_store.types import (
    AppendResult,
    DuplicateEventError,
    IdempotencyKey,
    InvalidEventError,
    KeyUsedError,
    Limit,
    LimitReachedError,
    NewEvent,
    QueueChange,
    RecordConflictError,
    StoreUnavailableError,
    Stream,
)
from nbledger_infrastructure.postgres.pulse import guarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from asyncpg.prepared_stmt import PreparedStatement

    from nbledger_infrastructure.postgres.database import Pool, PooledConnection

log = structlog.get_logger(__name__)

MAX_BATCH_APPENDS = 512
MAX_BATCH_BYTES = 4 * 1024 * 1024
COMMIT_TIMEOUT = 15.0
"""Seconds a batch may take, waiting for other processes' batches included."""
DRAIN_TIMEOUT = 20.0
"""Seconds that closing waits for the appends accepted so far."""

# Faults of the events, not of the database: refused by the server, or while encoding arguments.
_UNSTORABLE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
)

_APPEND = f"SELECT * FROM append_events({', '.join(f'${number}' for number in range(1, 24))})"  # noqa: S608


class Append:
    """One caller's append, waiting for its batch."""

    __slots__ = (
        "events",
        "expected",
        "future",
        "key",
        "metadata",
        "queue",
        "size",
        "stream",
        "unchanged_since",
    )

    def __init__(
        self,
        stream: Stream,
        events: Sequence[NewEvent],
        expected: int,
        metadata: str,
        unchanged_since: int | None,
        *,
        queue: QueueChange | None = None,
        key: IdempotencyKey | None = None,
    ) -> None:
        self.stream = stream
        self.events = events
        self.expected = expected
        self.metadata = metadata
        self.unchanged_since = unchanged_since
        self.queue = queue
        self.key = key
        self.size = 0
        for event in events:
            self.size += len(event.data)
        self.future: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()

    def succeed(self, result: AppendResult) -> None:
        """Give the caller its result, if it still waits."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Raise `error` in the caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)


class GroupCommit:
    """Owns one connection of the pool and the task that writes batches over it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[Append] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._connection: PooledConnection | None = None
        self._statement: PreparedStatement[asyncpg.Record] | None = None

    def start(self) -> None:
        """Start the task that writes."""
        if self._task is None:
            self._closing = False
            self._task = asyncio.create_task(self._run(), name="event store group commit")

    async def close(self) -> None:
        """Refuse further appends, write those that wait, and give the connection back."""
        self._closing = True
        self._wake.set()
        if self._task is None:
            return
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await self._task
        except TimeoutError:
            log.warning("event store closed before all appends were written")
        finally:
            self._task.cancel()
            self._task = None
            _fail(self._waiting, "the event store was closed")
            self._waiting.clear()

    def submit(self, append: Append) -> asyncio.Future[AppendResult]:
        """Queue an append for the next batch; the future tells what became of it."""
        if self._closing or self._task is None:
            raise StoreUnavailableError("the event store is not open")
        self._waiting.append(append)
        self._wake.set()
        return append.future

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._next_batch():
                    await self._write(batch)
                if self._closing:
                    return
        finally:
            await self._disconnect()

    def _next_batch(self) -> list[Append]:
        """Take what may go together: each stream and key once, a guarded append on its own."""
        batch: list[Append] = []
        later: list[Append] = []
        streams: set[UUID] = set()
        keys: set[bytes] = set()
        size = 0
        waiting = self._waiting
        while waiting and len(batch) < MAX_BATCH_APPENDS and size < MAX_BATCH_BYTES:
            append = waiting.popleft()
            if append.future.done():  # its caller was cancelled
                continue
            if append.unchanged_since is not None:
                if batch or later:
                    later.append(append)
                    break
                return [append]
            # A digest that two principals share costs nothing but a batch.
            digest = None if append.key is None else append.key.key_digest
            if append.stream.stream_id in streams or digest in keys:
                later.append(append)
                continue
            streams.add(append.stream.stream_id)
            if digest is not None:
                keys.add(digest)
            batch.append(append)
            size += append.size
        waiting.extendleft(reversed(later))
        return batch

    async def _write(self, batch: list[Append]) -> None:
        """Write a batch; whatever happens, every append of it gets its answer."""
        try:
            async with guarded(self._pool):
                statement = await self._connect()
        except BaseException as error:
            # Nothing was sent. Those who wait behind would meet the same, one timeout later each.
            log.warning("event store unavailable", error=type(error).__name__)
            _fail([*batch, *self._waiting], "the event store cannot be reached")
            self._waiting.clear()
            if not isinstance(error, Exception):
                raise
            return
        try:
            async with guarded(self._pool):
                row = await statement.fetchrow(*_arguments(batch), timeout=COMMIT_TIMEOUT)
            _answer(batch, row)
        except asyncio.CancelledError:
            for append in batch:
                append.fail(_unknown())
            raise
        except _UNSTORABLE as error:
            await self._divide(batch, error)
        except Exception as error:  # noqa: BLE001  every caller must get an answer
            log.warning("event store batch failed", error=type(error).__name__, appends=len(batch))
            for append in batch:
                append.fail(_unknown(error))
            await self._disconnect()

    async def _divide(self, batch: list[Append], error: Exception) -> None:
        """Something in the batch cannot be stored: halve it until the culprit fails alone."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])
            return
        append = batch[0]
        if isinstance(error, asyncpg.UniqueViolationError):
            append.fail(DuplicateEventError(append.stream.stream_id))
        else:
            append.fail(InvalidEventError(append.stream.stream_id, str(error)))

    async def _connect(self) -> PreparedStatement[asyncpg.Record]:
        if self._statement is not None and self._connection is not None:
            if not _is_lost(self._connection):
                return self._statement
            await self._disconnect()
        connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT)
        self._connection = connection
        try:
            self._statement = await connection.prepare(_APPEND, timeout=CONNECT_TIMEOUT)
        except BaseException:
            await self._disconnect()
            raise
        return self._statement

    async def _disconnect(self) -> None:
        connection, self._connection, self._statement = self._connection, None, None
        if connection is None:
            return
        try:
            await give_back_broken(self._pool, connection)
        except Exception as error:  # noqa: BLE001  the task that writes must go on
            log.warning("event store connection not released", error=type(error).__name__)


def _is_lost(connection: PooledConnection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool takes a connection back by itself when the server has cut it.
        return True


def _fail(appends: Iterable[Append], message: str) -> None:
    for append in appends:
        append.fail(StoreUnavailableError(message))


def _unknown(cause: Exception | None = None) -> StoreUnavailableError:
    error = StoreUnavailableError("the event store did not answer", outcome_unknown=True)
    error.__cause__ = cause
    return error


def _arguments(batch: list[Append]) -> tuple[object, ...]:
    """The arguments of `append_events`: an array element per append, then per event."""
    streams = [append.stream for append in batch]
    if all(len(append.events) == 1 for append in batch):
        # Nearly always: each event belongs to the append of the same number.
        owners = None
        events = [append.events[0] for append in batch]
    else:
        owners = [owner for owner, append in enumerate(batch, 1) for _ in append.events]
        events = [event for append in batch for event in append.events]
    return (
        [stream.stream_id for stream in streams],
        [stream.subject_id for stream in streams],
        [stream.tenant_id for stream in streams],
        [stream.project_id for stream in streams],
        [append.expected for append in batch],
        [append.metadata for append in batch],
        batch[0].unchanged_since,
        owners,
        [event.event_id for event in events],
        [event.type for event in events],
        [event.data.decode() for event in events],
        [event.occurred_at for event in events],
        *_queue_arguments([append.queue for append in batch]),
        *_key_arguments([append.key for append in batch]),
        *_limit_arguments([append.queue for append in batch]),
    )


_Column: TypeAlias = "Sequence[str | int | None]"


def _queue_arguments(changes: Sequence[QueueChange | None]) -> tuple[_Column | None, ...]:
    """What becomes of the queue; None where no append says anything."""
    return _told(
        [None if each is None else each.state for each in changes],
        [None if each is None else each.kernel_type for each in changes],
        [None if each is None else each.priority for each in changes],
    )


def _key_arguments(keys: Sequence[IdempotencyKey | None]) -> tuple[list[object] | None, ...]:
    if not any(keys):
        return (None,) * 5
    fields = ("principal_id", "operation", "key_digest", "fingerprint", "answer")
    return tuple([None if key is None else getattr(key, field) for key in keys] for field in fields)


def _limit_arguments(changes: Sequence[QueueChange | None]) -> tuple[_Column | None, ...]:
    """Which limits appends are held to, or set; None where there are none."""
    return _told(
        [None if each is None else each.tenant_limit for each in changes],
        [None if each is None else each.project_limit for each in changes],
        [None if each is None else each.notebook_limit for each in changes],
    )


def _told(*columns: _Column) -> tuple[_Column | None, ...]:
    return tuple(
        column if any(value is not None for value in column) else None for column in columns
    )


# What the function puts in the place of a stream's version.
_LIMITS: Mapping[int, Limit] = {
    -1: "maxRunningPerTenant",
    -2: "maxRunningPerProject",
    -3: "maxConcurrentRuns",
    -4: "maxWaitingPerTenant",
    -5: "maxWaitingPerProject",
}


def _answer(batch: list[Append], row: asyncpg.Record | None) -> None:
    """Tell each caller what the function did; accepted appends have consecutive positions."""
    if row is None:
        raise RuntimeError("append_events returned nothing")
    position, *lists = row
    refused = {number: how for number, *how in zip(*(each or () for each in lists), strict=True)}
    for number, append in enumerate(batch, 1):
        if number in refused:
            append.fail(_refusal(append, *refused[number]))
        else:
            count = len(append.events)
            position += count
            append.succeed(AppendResult(position, append.expected + count))


def _refusal(append: Append, actual: int | None, known: bool) -> Exception:  # noqa: FBT001
    """Why the function has refused an append."""
    stream_id = append.stream.stream_id
    if known:
        return DuplicateEventError(stream_id)
    if actual is None:
        return KeyUsedError(stream_id)
    if actual in _LIMITS:
        return LimitReachedError(stream_id, _LIMITS[actual])
    return RecordConflictError(stream_id, append.expected, actual)
