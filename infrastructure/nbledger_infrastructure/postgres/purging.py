"""Ridding the server's files of what is erased: vacuuming frees the room and leaves the bytes.

PostgreSQL zeroes nothing: a row that is gone stays in its page until another takes its room, and
in the write-ahead log until its segment is used again. So tables are written anew, and segments
are filled. Both take rights that the roles of the service do not have.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Final

import asyncpg
import msgspec

from nbledger_infrastructure.postgres.database import UNAVAILABLE, Pool, PooledConnection, acquire

LOCK_SECONDS: Final = 1.0
"""Seconds that each try waits for a table; all that come after it wait meanwhile."""

ATTEMPTS: Final = 5
"""How often each table is tried."""

OLD_SECONDS: Final = 10.0
"""Seconds to wait for transactions that began before, and may see what was erased since."""

_REWRITE_SECONDS: Final = 24 * 3600.0
_MOST_SEGMENTS: Final = 2_000

# The larger ones come last: what holds up the service for long is done once all else is.
_TABLES: Final = """
SELECT c.relname, pg_total_relation_size(c.oid) AS size
FROM pg_class AS c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
ORDER BY size, c.relname
"""

# Of a read model that is built anew: rebuilds have schemas of their own for the time.
_BUILT: Final = r"""
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild\_%' ORDER BY nspname
"""

# Whether anything may still see rows of before: a transaction of the server, whatever its database,
# a session's snapshot, or a replica.
_SEEN: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot()) < $1::text::xid8
    OR EXISTS (
        SELECT FROM pg_stat_activity
        WHERE (datname = current_database() OR datname IS NULL) AND pid <> pg_backend_pid()
            AND age(backend_xmin) > age(($1::text::xid8)::xid)
    )
    OR EXISTS (
        SELECT FROM pg_replication_slots WHERE age(xmin) > age(($1::text::xid8)::xid)
    )
"""

_SEGMENTS: Final = "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' ORDER BY name"

_CURRENT: Final = "SELECT pg_walfile_name(pg_current_wal_lsn())"


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What was done.

    ``rewritten`` and ``left`` are tables; what is left was in use. ``built`` are the schemas of
    rebuilds that were there meanwhile; their tables are not written anew. ``seen`` is whether a
    transaction or a replica from before was still there, so that rows of before are kept for it.
    ``log_filled`` is whether every segment of the write-ahead log from before has been filled or
    removed; ``None`` where the user has no right to do so. Archives and replicas keep theirs.
    """

    rewritten: list[str]
    left: list[str]
    built: list[str]
    seen: bool
    log_filled: bool | None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do in the server's own files."""
        in_use = self.left or self.built or self.seen
        return not in_use and self.log_filled is True


async def purge(
    pool: Pool, *, skip: Collection[str] = (), progress: Callable[[str], object] = lambda _: None
) -> Purged:
    """Write all tables anew but those to ``skip``, and fill the write-ahead log.

    What killed rebuilds left is for the caller to remove before. Each table is locked while it is
    written, which for table ``event`` stops the service for as
    long. ``progress`` is called with each table before. Takes the owner of the tables, and for the
    log a superuser, or one with the rights to ``pg_switch_wal``, ``pg_ls_waldir`` and CHECKPOINT.
    """
    rewritten: list[str] = []
    left: list[str] = []
    async with acquire(pool) as connection:
        built = await _built(connection)
        seen = not await _until_unseen(connection)
        await connection.execute(f"SET lock_timeout = {round(LOCK_SECONDS * 1000)}")
        try:
            for row in await connection.fetch(_TABLES):
                table: str = row["relname"]
                if table in skip:
                    left.append(table)
                    continue
                progress(table)
                (rewritten if await _rewrite(connection, table) else left).append(table)
        except BaseException:
            # What ended the session is to be told, not that it is over.
            with contextlib.suppress(asyncpg.PostgresError, *UNAVAILABLE):
                await connection.execute("RESET lock_timeout")
            raise
        await connection.execute("RESET lock_timeout")
        try:
            log_filled: bool | None = await _fill_log(connection)
        except asyncpg.InsufficientPrivilegeError:
            log_filled = None
        # One that has ended since may have put its tables in the place of some written anew.
        built |= await _built(connection)
    return Purged(
        rewritten=rewritten, left=left, built=sorted(built), seen=seen, log_filled=log_filled
    )


async def _built(connection: PooledConnection) -> set[str]:
    return {row["nspname"] for row in await connection.fetch(_BUILT)}


async def _until_unseen(connection: PooledConnection) -> bool:
    """Wait until nobody can see what was before; whether that came true in time."""
    horizon: str = await connection.fetchval("SELECT pg_current_xact_id()::text")
    try:
        async with asyncio.timeout(OLD_SECONDS):
            while await connection.fetchval(_SEEN, horizon):  # noqa: ASYNC110 - others end
                await asyncio.sleep(0.1)
    except TimeoutError:
        return False
    return True


async def _rewrite(connection: PooledConnection, table: str) -> bool:
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(LOCK_SECONDS)
        try:
            # Names come from the catalogue, and are quoted all the same.
            quoted = table.replace('"', '""')
            await connection.execute(f'VACUUM (FULL) "{quoted}"', timeout=_REWRITE_SECONDS)
        except asyncpg.LockNotAvailableError:
            continue
        return True
    return False


async def _fill_log(connection: PooledConnection) -> bool:
    """Write over every segment of the write-ahead log; whether none of before is left.

    A checkpoint removes the segments of before, or gives them names of ones to come, content
    and all. A switch fills the rest of a segment with zeros, so those to come are switched through.
    """
    before = await connection.fetchval(_CURRENT)
    for _ in range(2):
        await _switch(connection)
        await connection.execute("CHECKPOINT", timeout=_REWRITE_SECONDS)
        last = max(row["name"] for row in await connection.fetch(_SEGMENTS))
        for _ in range(_MOST_SEGMENTS):
            if await connection.fetchval(_CURRENT) > last:
                break
            await _switch(connection)
    await connection.execute("CHECKPOINT", timeout=_REWRITE_SECONDS)
    kept = await connection.fetch(_SEGMENTS)
    return all(row["name"] > before for row in kept)


async def _switch(connection: PooledConnection) -> None:
    # A segment with nothing in it is not switched.
    await connection.execute("SELECT pg_logical_emit_message(false, 'nbledger', '')")
    await connection.execute("SELECT pg_switch_wal()", timeout=_REWRITE_SECONDS)
