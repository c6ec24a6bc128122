"""Migrations and the pool."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
from support.event_store import connect, open_pool

from nbledger_infrastructure.postgres.database import (
    DatabaseUnavailableError,
    MigrationChangedError,
    acquire,
    connect_pool,
    migrate,
)


async def test_migrating_again_changes_nothing(database_dsn: str) -> None:
    assert await migrate(database_dsn) == []


async def test_processes_may_migrate_at_once(database_dsn: str) -> None:
    async with connect(database_dsn) as connection:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    results = await asyncio.gather(*(migrate(database_dsn) for _ in range(4)))
    assert "0001_event_store.sql" in max(results, key=len)
    assert sorted(map(len, results))[:3] == [0, 0, 0]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE schema_migration SET checksum = 'x' WHERE name = '0001_event_store.sql'",
        "INSERT INTO schema_migration (name, checksum) VALUES ('0000_unknown.sql', 'x')",
    ],
)
async def test_a_changed_history_of_migrations_is_refused(database_dsn: str, change: str) -> None:
    async with connect(database_dsn) as connection:
        await connection.execute(change)
    with pytest.raises(MigrationChangedError, match=r"000[01]_\w+\.sql"):
        await migrate(database_dsn)


async def test_indexes_of_events_may_be_made_before_the_migration(database_dsn: str) -> None:
    """By the statements in the documentation, while others append; half-made ones are refused."""
    documented = (Path(__file__).parents[3] / "docs" / "deployment.md").read_text()
    statements = re.findall(r"^CREATE INDEX CONCURRENTLY (\w+) .*;$", documented, re.MULTILINE)
    assert len(statements) == 3
    indexes = """
        SELECT indexrelid::regclass::text AS name, indexrelid, pg_get_indexdef(indexrelid) AS made
        FROM pg_index WHERE indrelid = 'event'::regclass ORDER BY name
    """
    async with connect(database_dsn) as connection:
        migrated = await connection.fetch(indexes)
        await connection.execute(f"DROP INDEX {', '.join(statements)}")
        await connection.execute("DELETE FROM schema_migration WHERE name LIKE '0028%'")
        for statement in re.findall(r"^CREATE INDEX CONC.*;$", documented, re.MULTILINE):
            await connection.execute(statement)
        made = await connection.fetch(indexes)
        assert [row["made"] for row in made] == [row["made"] for row in migrated]
        valid = "UPDATE pg_index SET indisvalid = $1 WHERE indexrelid = $2::text::regclass"
        await connection.execute(valid, False, statements[1])
        with pytest.raises(asyncpg.RaiseError, match=rf"invalid indexes .*: {statements[1]}\n"):
            await migrate(database_dsn)
        await connection.execute(valid, True, statements[1])
        assert await migrate(database_dsn) == ["0028_histories.sql"]
        assert await connection.fetch(indexes) == made


async def test_waiting_for_a_connection_is_bounded(database_dsn: str) -> None:
    async with open_pool(database_dsn, max_size=1) as pool, acquire(pool):
        with pytest.raises(DatabaseUnavailableError):
            async with acquire(pool, timeout=0.05):
                pass


async def test_errors_of_the_block_pass_through(database_dsn: str) -> None:
    async with open_pool(database_dsn, max_size=1) as pool:
        with pytest.raises(asyncpg.UndefinedTableError):
            async with acquire(pool) as connection:
                await connection.execute("SELECT * FROM nowhere")
        async with acquire(pool) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_an_unreachable_database_is_told_as_such() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(DatabaseUnavailableError):
        await connect_pool(nowhere, application_name="test")
    with pytest.raises(DatabaseUnavailableError):
        await migrate(nowhere)
