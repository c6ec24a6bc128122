"""Tokens in the database."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import Pool, acquire, connect_pool
from nbledger_infrastructure.postgres.tokens import Role


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    pool = await connect_pool(database_dsn, max_size=2, application_name="test")
    yield pool
    await pool.close()


async def make(pool: Pool, expires_at: datetime | None = None) -> tuple[str, tokens.Token]:
    return await tokens.create(
        pool,
        name="ada",
        tenant_id=uuid4(),
        project_ids=[uuid4()],
        roles=[Role.READER, Role.AUDITOR],
        expires_at=expires_at,
    )


async def test_a_token_is_found_by_itself_and_stored_as_a_hash(pool: Pool) -> None:
    secret, record = await make(pool)
    assert len(secret) == len(tokens.PREFIX) + 43, "256 bits"
    assert await tokens.find(pool, secret) == record
    assert await tokens.find(pool, secret + "x") is None
    async with acquire(pool) as connection:
        stored = await connection.fetchval("SELECT api_token::text FROM api_token")
    assert secret not in stored


async def test_a_token_covers_the_projects_it_names(pool: Pool) -> None:
    _, record = await make(pool)
    assert record.project_ids is not None
    assert record.covers(record.project_ids[0])
    assert not record.covers(uuid4())


async def test_revoked_and_expired_tokens_are_not_found(pool: Pool) -> None:
    secret, record = await make(pool)
    assert await tokens.revoke(pool, record.token_id)
    assert not await tokens.revoke(pool, record.token_id)
    assert await tokens.find(pool, secret) is None
    expired, _ = await make(pool, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert await tokens.find(pool, expired) is None
    assert len(await tokens.list_all(pool)) == 2
    assert len(await tokens.list_all(pool, record.tenant_id)) == 1
