"""What conftest promises to other tests."""

from __future__ import annotations

import asyncpg


async def test_every_test_has_a_migrated_database_of_its_own(
    database_dsn: str, postgres_dsn: str
) -> None:
    connection = await asyncpg.connect(database_dsn, timeout=10)
    try:
        name = await connection.fetchval("SELECT current_database()")
        assert name.startswith("test_")
        assert await connection.fetchval("SELECT to_regclass('event')") == "event"
        assert await connection.fetchval("SELECT count(*) FROM event") == 0
    finally:
        await connection.close(timeout=10)
    assert database_dsn.rpartition("/")[0] == postgres_dsn.rpartition("/")[0]
