"""The tables of a projection in a schema of their own: made like those in use, and dropped."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from nbledger_infrastructure.postgres.database import PooledConnection

WAIT_FOR_LOCK: Final = "3s"
"""How long the right to build is waited for: the server may be busy for one that was killed."""

_LOCK: Final = 0x6E626C72
# Any constant does, as long as nothing else in the database uses it as the first of two keys.

HELD: Final = f"""
SELECT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid::bigint = {_LOCK} AND objid::bigint = hashtext($1)::bigint & 4294967295
)
"""  # noqa: S608 (a constant)
"""Whether somebody has the right to build projection ``$1``."""

_COLUMN_SETTINGS: Final = """
SELECT attname, attstattarget, attoptions FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    AND (attstattarget IS NOT NULL OR attoptions IS NOT NULL)
"""

_OPTIONS: Final = "SELECT reloptions FROM pg_class WHERE oid = $1::text::regclass"

# Who may do what, on the table and on single columns, as GRANT statements want it.
_GRANTS: Final = """
SELECT privilege_type || coalesce(' (' || quote_ident(column_name) || ')', '') AS privilege,
    CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee,
    is_grantable
FROM (
    SELECT NULL AS column_name, granted.*
    FROM pg_class, aclexplode(relacl) AS granted WHERE oid = $1::text::regclass
    UNION ALL
    SELECT attname, granted.*
    FROM pg_attribute, aclexplode(attacl) AS granted
    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
) AS every
"""

_OWNERS: Final = """
SELECT quote_ident(pg_get_userbyid(relowner)), relowner = current_user::regrole
FROM pg_class WHERE oid = $1::text::regclass
"""


class RebuildRunningError(Exception):
    """This read model is being built anew by somebody else."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is being rebuilt or verified already")


def schema_of(name: str) -> str:
    """Where the tables of projection ``name`` are built."""
    return f"rebuild_{name}"


@asynccontextmanager
async def alone(connection: PooledConnection, name: str) -> AsyncIterator[None]:
    """Hold the right to build ``name``, which ends with the connection at the latest.

    Raises :class:`RebuildRunningError`.
    """
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{WAIT_FOR_LOCK}'")
            await connection.execute("SELECT pg_advisory_lock($1, hashtext($2))", _LOCK, name)
    except asyncpg.LockNotAvailableError:
        raise RebuildRunningError(name) from None
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1, hashtext($2))", _LOCK, name)


async def make(connection: PooledConnection, tables: Sequence[str], live: str, beside: str) -> None:
    """Make ``tables`` of schema ``live`` in schema ``beside``, empty, and whatever was there goes.

    They are not logged until :func:`finish`: nobody needs them after a crash.
    """
    async with connection.transaction():
        await drop(connection, beside)
        await connection.execute(f"CREATE SCHEMA {beside}")
        for table in tables:
            old, new = f'"{live}".{table}', f"{beside}.{table}"
            await connection.execute(f"CREATE UNLOGGED TABLE {new} (LIKE {old} INCLUDING ALL)")
            for statement in await _settings(connection, old, new):
                await connection.execute(statement)


async def finish(connection: PooledConnection, table: str, *, timeout: float) -> None:
    """Make a table that is filled durable and compact, and let the planner know it."""
    await connection.execute(f"ALTER TABLE {table} SET LOGGED", timeout=timeout)
    await connection.execute(f"ANALYZE {table}", timeout=timeout)


async def drop(connection: PooledConnection, beside: str) -> None:
    """Drop the schema and all that is in it, if it is there."""
    await connection.execute(f"DROP SCHEMA IF EXISTS {beside} CASCADE")


async def _settings(connection: PooledConnection, old: str, new: str) -> list[str]:
    """Statements for all that LIKE does not take over."""
    statements: list[str] = []
    for column, target, options in await connection.fetch(_COLUMN_SETTINGS, old):
        alter = f'ALTER TABLE {new} ALTER COLUMN "{column}"'
        if target is not None:
            # None at all for columns whose samples would outlive the rows.
            statements.append(f"{alter} SET STATISTICS {target}")
        if options:
            statements.append(f"{alter} SET ({', '.join(options)})")
    if options := await connection.fetchval(_OPTIONS, old):
        statements.append(f"ALTER TABLE {new} SET ({', '.join(options)})")
    for privilege, grantee, grantable in await connection.fetch(_GRANTS, old):
        grant = " WITH GRANT OPTION" if grantable else ""
        statements.append(f"GRANT {privilege} ON {new} TO {grantee}{grant}")
    owner = await connection.fetchrow(_OWNERS, old)
    if owner is not None and not owner[1]:
        statements.append(f"ALTER TABLE {new} OWNER TO {owner[0]}")
    return statements
