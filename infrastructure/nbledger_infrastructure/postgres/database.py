"""PostgreSQL: the connection pool, bounded acquisition, and schema migrations."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import structlog

from nbledger_infrastructure.postgres.pulse import NoPulseError, guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg.pool import PoolConnectionProxy

# As text: the classes are generic for type checkers only.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PooledConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds to open a connection, and to wait for a free one of the pool."""
COMMAND_TIMEOUT = 30.0
"""Seconds a single statement may take, unless the call says otherwise."""
BROKEN_RELEASE_TIMEOUT = 0.5
"""Seconds to take back a connection whose statement was cut off; it is closed after that."""
MIGRATION_TIMEOUT = 600.0
"""Seconds one migration, or the wait for another process that migrates, may take."""

# Any constant does, as long as nothing else in the database locks on it.
_MIGRATION_LOCK = 0x6E626C_6D6967


class DatabaseUnavailableError(Exception):
    """The database cannot be reached, refuses connections, or answers too late."""


class MigrationChangedError(Exception):
    """An applied migration differs from the file of the same name, or the file is missing."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"migration {name} {reason}")
        self.name = name


# What asyncpg raises when the server or the way to it is at fault, not the statement.
UNAVAILABLE = (
    OSError,  # includes TimeoutError
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.InternalClientError,
    asyncpg.PostgresSystemError,  # the server's disk
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is not promoted yet
    asyncpg.IdleInTransactionSessionTimeoutError,
)


async def connect_pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 8,
    application_name: str,
    reset: bool = True,
) -> Pool:
    """Open a pool of at most `max_size` connections, named `application_name` on the server.

    Without `reset` a connection comes back as it was lent, but for an open transaction, which is
    rolled back. That saves a round trip, and is for those who set nothing on their connections.

    Raises `DatabaseUnavailableError` when the first connections cannot be opened.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT * 2):
            return await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                reset=None if reset else _leave,
                server_settings={"application_name": application_name, "timezone": "UTC"},
            )
    except UNAVAILABLE as error:
        raise DatabaseUnavailableError("the database cannot be reached") from error


async def _leave(_: object) -> None:
    """Reset nothing."""


async def close_pool(pool: Pool) -> None:
    """Close all connections; those that do not close in time are cut."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await pool.close()
    except (TimeoutError, *UNAVAILABLE):
        pool.terminate()


@asynccontextmanager
async def acquire(
    pool: Pool, *, timeout: float = CONNECT_TIMEOUT
) -> AsyncIterator[PooledConnection]:
    """Lend a connection of the pool for the block.

    Raises `DatabaseUnavailableError` when none is free, or can be opened, in `timeout` seconds,
    and where the pool has a pulse also when the server stops answering within the block. Other
    errors of the block pass through as they are.
    """
    try:
        async with guarded(pool):
            try:
                connection = await pool.acquire(timeout=timeout)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                # Nobody has sent a statement yet: whatever is wrong, it is the database.
                raise DatabaseUnavailableError("no database connection to be had") from error
            try:
                yield connection
            except BaseException:
                await give_back_broken(pool, connection)
                raise
            await pool.release(connection, timeout=timeout)
    except NoPulseError as error:
        raise DatabaseUnavailableError("the database does not answer") from error


async def give_back_broken(pool: Pool, connection: PooledConnection) -> None:
    """Take back a connection on which something failed; one that does not recover is closed."""
    try:
        await pool.release(connection, timeout=BROKEN_RELEASE_TIMEOUT)
    except (asyncpg.PostgresError, *UNAVAILABLE) as error:
        log.warning("database connection closed", error=type(error).__name__)


def _migrations() -> list[tuple[str, str]]:
    """Return name and text of each packaged migration, in order."""
    folder = resources.files("nbledger_infrastructure.postgres").joinpath("migrations")
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return [(entry.name, entry.read_text("utf-8")) for entry in files]


async def migrate(dsn: str) -> list[str]:
    """Apply the pending migrations and return their names.

    Safe to call from several processes at once: an advisory lock lets one work, and the others
    then find nothing to do. Each migration is a transaction of its own.

    Raises `MigrationChangedError` when an applied migration was edited or removed afterwards,
    and `DatabaseUnavailableError` when the database cannot be reached.
    """
    try:
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT, command_timeout=MIGRATION_TIMEOUT
        )
    except UNAVAILABLE as error:
        raise DatabaseUnavailableError("the database cannot be reached") from error
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        return await _apply_pending(connection, _migrations())
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


async def _apply_pending(connection: Connection, migrations: list[tuple[str, str]]) -> list[str]:
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migration (
            name text PRIMARY KEY,
            checksum text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    rows = await connection.fetch("SELECT name, checksum FROM schema_migration ORDER BY name")
    recorded = {row["name"]: row["checksum"] for row in rows}
    if missing := sorted(recorded.keys() - {name for name, _ in migrations}):
        raise MigrationChangedError(
            missing[0], "is applied in the database but unknown to this version of the program"
        )
    applied = []
    for name, text in migrations:
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if name in recorded:
            if recorded[name] != checksum:
                raise MigrationChangedError(name, "was changed after it had been applied")
            continue
        async with connection.transaction():
            await connection.execute(text)
            await connection.execute(
                "INSERT INTO schema_migration (name, checksum) VALUES ($1, $2)", name, checksum
            )
        log.info("migration applied", migration=name)
        applied.append(name)
    return applied
