"""Principals: who acts by a token. Events hold their ids, this table alone their names."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import msgspec

from nbledger_infrastructure.actors import principal_id_of
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire

REMEMBER_SECONDS: Final = 5.0
"""For so long a name that has just been erased may still be shown."""

REMEMBER_NAMES: Final = 10_000

LOCK_SECONDS: Final = 1.0
"""Seconds that an erasure waits for the table at each try, and between two."""

ATTEMPTS: Final = 3
"""How often an erasure tries to write the table anew."""

_ENSURE: Final = """
INSERT INTO principal (principal_id, tenant_id, name) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, name) DO UPDATE SET name = excluded.name
RETURNING principal_id
"""

_LIST: Final = """
SELECT
    p.*, count(t.token_id) FILTER (
        WHERE t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
    ) AS valid_tokens
FROM principal AS p LEFT JOIN api_token AS t USING (principal_id)
WHERE $1::uuid IS NULL OR p.tenant_id = $1
GROUP BY p.principal_id ORDER BY p.created_at, p.principal_id
"""

_ERASE: Final = """
UPDATE principal SET name = NULL, erased_at = now() WHERE principal_id = $1 AND name IS NOT NULL
"""

_KNOWN: Final = "SELECT EXISTS (SELECT FROM principal WHERE principal_id = $1)"

_REVOKE: Final = """
UPDATE api_token SET revoked_at = now() WHERE principal_id = $1 AND revoked_at IS NULL
"""

_BY_NAME: Final = """
SELECT name, principal_id FROM principal WHERE tenant_id = $1 AND name = ANY($2)
"""

_BY_ID: Final = """
SELECT principal_id, name FROM principal WHERE principal_id = ANY($1) AND tenant_id = $2
"""

# Whether rows that were there before the last change may still be seen: by a snapshot of a session
# here, or by that of the rewriting itself, which sees what the oldest transaction of the server
# sees, in whatever database. Of sessions of others the owner sees it as a member of
# pg_read_all_stats only.
_SEEN: Final = """
WITH changed AS (SELECT min(age(xmin)) AS age FROM principal)
SELECT age(pg_snapshot_xmin(pg_current_snapshot())::xid) >= changed.age OR EXISTS (
    SELECT FROM pg_stat_activity
    WHERE (datname = current_database() OR datname IS NULL) AND pid <> pg_backend_pid()
        AND age(backend_xmin) >= changed.age
)
FROM changed
"""

_BEFORE: Final = "SELECT formula = 1 FROM event ORDER BY position LIMIT 1"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts. ``name`` is ``None`` once it is erased."""

    principal_id: UUID
    tenant_id: UUID
    name: str | None
    created_at: datetime
    erased_at: datetime | None
    valid_tokens: int


class Erased(msgspec.Struct, frozen=True):
    """The name is erased. ``rewritten`` is whether the file of the table is rid of it, too."""

    rewritten: bool


async def ensure(connection: PooledConnection, tenant_id: UUID, name: str) -> UUID:
    """The id of the tenant's principal of this name, which is made where there is none."""
    found: UUID = await connection.fetchval(_ENSURE, uuid4(), tenant_id, name)
    return found


async def list_all(pool: Pool, tenant_id: UUID | None = None) -> list[Principal]:
    """All principals, or those of one tenant, oldest first, erased ones included."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(_LIST, tenant_id)
    return [
        Principal(
            principal_id=row["principal_id"],
            tenant_id=row["tenant_id"],
            name=row["name"],
            created_at=row["created_at"],
            erased_at=row["erased_at"],
            valid_tokens=row["valid_tokens"],
        )
        for row in rows
    ]


async def erase(pool: Pool, principal_id: UUID) -> Erased | None:
    """Erase the name of a principal and end its tokens; ``None`` where there is no such principal.

    What events hold of it, the id, stays and says nothing any more. The table is written anew, so
    that the name leaves its file as well, which takes the rights of the owner. Where others keep it
    in use that is left out; a repetition, which finds the name erased, does it.
    """
    async with acquire(pool) as connection:
        async with connection.transaction():
            known = await connection.fetchval(_KNOWN, principal_id)
            if not known:
                return None
            await connection.execute(_ERASE, principal_id)
            await connection.execute(_REVOKE, principal_id)
        return Erased(rewritten=await _rewrite(connection))


async def _rewrite(connection: PooledConnection) -> bool:
    """Write the table anew; whether nobody kept it, or what was in it, in use for too long.

    All that look up tokens wait behind whoever waits for the lock of the whole table, so each try
    waits for a moment only. A row of before stays for those whose snapshot is older than its end.
    """
    await connection.execute(f"SET lock_timeout = {round(LOCK_SECONDS * 1000)}")
    try:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(LOCK_SECONDS)
            try:
                if await connection.fetchval(_SEEN):
                    continue
                await connection.execute("VACUUM FULL principal")
            except asyncpg.LockNotAvailableError:
                continue
            return True
    finally:
        await connection.execute("RESET lock_timeout")
    return False


async def names_in_events(pool: Pool) -> bool:
    """Whether there are events from before principals, which hold names themselves."""
    async with acquire(pool) as connection:
        return bool(await connection.fetchval(_BEFORE))


class Names:
    """Names of principals by the actors of events, remembered for moments; one in each process."""

    def __init__(self, pool: Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._known: dict[tuple[UUID, UUID], tuple[float, str | None]] = {}

    async def of(self, tenant_id: UUID, actors: Iterable[str]) -> dict[str, str]:
        """What to show for each actor: the name of a principal, anything else as it is.

        A principal without a name, as it is erased, is shown by its id; so is one of another
        tenant. Raises ``DatabaseUnavailableError``.
        """
        told = {actor: principal_id_of(actor) for actor in set(actors)}
        names = await self._names(tenant_id, {each for each in told.values() if each is not None})
        return {actor: names.get(principal) or actor for actor, principal in told.items()}

    async def actors(self, tenant_id: UUID, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        """By name what events may hold of each principal of the tenant that has one of ``names``.

        That is its id, and in a store with events of before there were principals the name, too.
        Raises ``DatabaseUnavailableError``.
        """
        if not names:
            return {}
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_BY_NAME, tenant_id, list(names))
        if not rows:
            return {}
        old = await names_in_events(self._pool)
        return {row[0]: (str(row[1]), row[0]) if old else (str(row[1]),) for row in rows}

    async def _names(
        self, tenant_id: UUID, principal_ids: set[UUID]
    ) -> dict[UUID | None, str | None]:
        moment = self._clock()
        found: dict[UUID | None, str | None] = {
            each: known[1]
            for each in principal_ids
            if (known := self._known.get((tenant_id, each))) is not None and known[0] > moment
        }
        wanted = principal_ids - found.keys()
        if not wanted:
            return found
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_BY_ID, list(wanted), tenant_id)
        new: dict[UUID, str | None] = dict.fromkeys(wanted)
        new |= {row[0]: row[1] for row in rows}
        if len(self._known) + len(new) > REMEMBER_NAMES:
            self._known.clear()
        until = moment + REMEMBER_SECONDS
        self._known |= {(tenant_id, each): (until, name) for each, name in new.items()}
        return found | new
