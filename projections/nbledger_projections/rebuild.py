"""Building a read model anew from all events, beside the one in use, and taking its place.

The new tables are made in a schema of their own under the same names, so that the very code of
the projection fills them: only the search path differs. Reading and projecting go on meanwhile.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import structlog

from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.postgres.event_store.store import READ_ALL
from nbledger_infrastructure.postgres.event_store.types import recorded_event
from nbledger_infrastructure.settings import Settings
from nbledger_projections.machinery.runner import Projection, project
from nbledger_projections.registry import READ_MODELS

log = structlog.get_logger(__name__)

ALL = "all"

BATCH_EVENTS = 1000
BATCH_TIMEOUT = 60.0
"""Seconds that reading a batch, or folding and writing it, may take."""

SWAP_LOCK_TIMEOUT = "500ms"
"""How long the swap waits for readers, who wait behind it, before it tries again later. Less than
PostgreSQL's deadlock_timeout: should there be one, it is the swap that gives way."""
SWAP_ATTEMPTS = 60
SWAP_PAUSE = 0.5
"""Seconds between those attempts."""

REPORT_SECONDS = 1.0

# Any constant does, as long as nothing else in the database uses it as the first of two keys.
_LOCK = 0x6E626C72


class UnknownProjectionError(Exception):
    """There is no projection of this name."""

    def __init__(self, name: str) -> None:
        known = ", ".join(READ_MODELS)
        super().__init__(f"there is no read model {name!r}; there are {known}, and {ALL}")


class RebuildRunningError(Exception):
    """This read model is being rebuilt by somebody else."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is being rebuilt already")


_UNSAMPLED = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attstattarget = 0
"""


async def rebuild(settings: Settings, name: str, progress: Callable[[str], None]) -> None:
    """Build the read model ``name``, or with ``all`` every one, anew; tell ``progress``.

    Safe at any time, with any number of projectors running; they go on with the new tables.
    Raises :class:`UnknownProjectionError`, :class:`RebuildRunningError`,
    :class:`PoisonedEventError` and ``DatabaseUnavailableError``; the read model in use is then
    as it was.
    """
    if name != ALL and name not in READ_MODELS:
        raise UnknownProjectionError(name)
    pool = await connect_pool(
        settings.postgres.dsn, max_size=3, application_name="nbledger-rebuild"
    )
    try:
        for each in READ_MODELS if name == ALL else [name]:
            await rebuild_projection(pool, each, progress)
    finally:
        await close_pool(pool)


def _unheard(_: str) -> None:
    """Progress that nobody follows."""


async def rebuild_projection(
    pool: Pool, name: str, progress: Callable[[str], None] = _unheard
) -> int:
    """Build one read model anew; returns the position that it was at when it took its place.

    Takes two connections of the pool. Raises as :func:`rebuild` does.
    """
    projection = READ_MODELS[name].projection()
    async with acquire(pool) as connection, _alone(connection, projection.name):
        live = await connection.fetchval("SELECT current_schema()")
        beside = _schema(projection.name)
        await checkpoints.ensure(connection, projection.name)
        await _make_tables(connection, projection, live, beside)
        try:
            # The batches need not be durable one by one: the swap's commit flushes them all.
            await _set(connection, "search_path", f'{beside}, "{live}"')
            await _set(connection, "synchronous_commit", "off")
            position = await _catch_up(pool, connection, projection, progress)
            await _set(connection, "synchronous_commit", "on")
            position = await _take_place(connection, projection, live, position, progress)
        except BaseException:
            projection.reset()
            await _drop(connection, beside)
            raise
    progress(f"{projection.name}: rebuilt as of position {position}")
    log.info("read model rebuilt", projection=projection.name, position=position)
    return position


async def remove_leftovers(pool: Pool) -> None:
    """Drop what rebuilds left behind that were killed."""
    async with acquire(pool) as connection:
        for name in READ_MODELS:
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", _schema(name)
            ):
                continue
            try:
                async with _alone(connection, name):
                    await _drop(connection, _schema(name))
                    log.info("leftovers of a rebuild removed", projection=name)
            except RebuildRunningError:
                continue


def _schema(name: str) -> str:
    return f"rebuild_{name}"


@asynccontextmanager
async def _alone(connection: PooledConnection, name: str) -> AsyncIterator[None]:
    """Hold the right to rebuild ``name``, which ends with the connection at the latest."""
    key = list(READ_MODELS).index(name)
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _LOCK, key):
        raise RebuildRunningError(name)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1, $2)", _LOCK, key)


async def _set(connection: PooledConnection, setting: str, value: str) -> None:
    # Undone when the connection goes back to the pool.
    await connection.execute("SELECT set_config($1, $2, false)", setting, value)


async def _make_tables(
    connection: PooledConnection, projection: Projection, live: str, beside: str
) -> None:
    async with connection.transaction():
        await connection.execute(f"DROP SCHEMA IF EXISTS {beside} CASCADE")
        await connection.execute(f"CREATE SCHEMA {beside}")
        for table in projection.tables:
            await connection.execute(
                f'CREATE TABLE {beside}.{table} (LIKE "{live}".{table} INCLUDING ALL)'
            )
            # All but this: which columns no samples are taken of, as they would outlive the rows.
            for column in await connection.fetch(_UNSAMPLED, f'"{live}".{table}'):
                await connection.execute(
                    f'ALTER TABLE {beside}.{table} ALTER COLUMN "{column[0]}" SET STATISTICS 0'
                )


async def _drop(connection: PooledConnection, beside: str) -> None:
    if not connection.is_closed():
        await connection.execute(f"DROP SCHEMA IF EXISTS {beside} CASCADE")


async def _catch_up(
    pool: Pool,
    connection: PooledConnection,
    projection: Projection,
    progress: Callable[[str], None],
) -> int:
    """Fold all events there are; returns the position of the last."""
    store = EventStore(pool)
    position = 0
    reported = time.monotonic()

    def read(after: int) -> asyncio.Task[list[RecordedEvent]]:
        return asyncio.create_task(store.read_all(after_position=after, limit=BATCH_EVENTS))

    reading = read(position)
    try:
        while True:
            async with asyncio.timeout(BATCH_TIMEOUT):
                events = await reading
            if not events:
                return position
            position = events[-1].position
            # The next batch is read while this one is folded.
            reading = read(position)
            async with asyncio.timeout(BATCH_TIMEOUT), connection.transaction():
                await project(connection, projection, events)
            projection.settle()
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                progress(f"{projection.name}: at position {position}")
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _take_place(
    connection: PooledConnection,
    projection: Projection,
    live: str,
    position: int,
    progress: Callable[[str], None],
) -> int:
    for attempt in range(SWAP_ATTEMPTS):
        try:
            async with asyncio.timeout(BATCH_TIMEOUT):
                return await _swap(connection, projection, live, position)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            # Rolled back: the rows in memory are ahead of the tables.
            projection.reset()
            if attempt == SWAP_ATTEMPTS - 1:
                raise
            progress(f"{projection.name}: the tables are busy, waiting")
            await asyncio.sleep(SWAP_PAUSE)
    raise AssertionError("unreachable")


async def _swap(
    connection: PooledConnection, projection: Projection, live: str, position: int
) -> int:
    """Fold what has come meanwhile and exchange the tables, while no projector can move."""
    beside = _schema(projection.name)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{SWAP_LOCK_TIMEOUT}'")
        await checkpoints.lock(connection, projection.name)
        while events := await _read(connection, position):
            await project(connection, projection, events)
            projection.settle()
            position = events[-1].position
        # All of them before any is dropped, in the order in which queries come to them.
        tables = ", ".join(f'"{live}".{table}' for table in projection.tables)
        await connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        for table in projection.tables:
            await connection.execute(f'DROP TABLE "{live}".{table}')
            await connection.execute(f'ALTER TABLE {beside}.{table} SET SCHEMA "{live}"')
        await checkpoints.move(connection, projection.name, position, new_generation=True)
        await connection.execute(f"DROP SCHEMA {beside}")
    return position


async def _read(connection: PooledConnection, after: int) -> list[RecordedEvent]:
    rows = await connection.fetch(READ_ALL, after, BATCH_EVENTS)
    return [recorded_event(row) for row in rows]
