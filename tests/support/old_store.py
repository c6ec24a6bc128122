"""A database as the version before digests had salt left it: migrated up to there alone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from support.databases import drop_database, empty_database
from support.event_store import open_pool

from nbledger_infrastructure.postgres import database
from nbledger_infrastructure.postgres.database import Pool

SALTED = "0022_salted_digests.sql"


@asynccontextmanager
async def old_database(before: str = SALTED) -> AsyncIterator[tuple[str, Pool]]:
    """A database with the migrations before that one: its DSN, and a pool on it."""
    dsn = await asyncio.to_thread(empty_database)
    try:
        connection = await asyncpg.connect(dsn)
        try:
            earlier = [each for each in database._migrations() if each[0] < before]
            await database._apply_pending(connection, earlier)
        finally:
            await connection.close()
        async with open_pool(dsn) as pool:
            yield dsn, pool
    finally:
        await asyncio.to_thread(drop_database, dsn)


async def old_token(pool: Pool, name: str, tenant_id: uuid.UUID) -> uuid.UUID:
    """The id of a token as that version stored it."""
    token_id = uuid.uuid4()
    await pool.execute(
        "INSERT INTO api_token (token_id, hash, name, tenant_id, roles) "
        "VALUES ($1, $2, $3, $4, $5)",
        token_id,
        token_id.bytes,
        name,
        tenant_id,
        ["admin"],
    )
    return token_id
