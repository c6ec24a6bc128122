"""The command that rids the database's files of what is erased looks at rebuilds, too."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from support.event_store import open_pool

from nbledger_infrastructure.postgres.database import acquire
from nbledger_projections.rebuilding import tables


@pytest.mark.guarantee("G50")
async def test_tables_of_rebuilds_are_removed_or_told(database_dsn: str) -> None:
    """They hold what read models do: what is erased is gone only where they are."""
    async with open_pool(database_dsn) as pool, acquire(pool) as connection:
        for name in ("notebook_details", "notebook_list"):
            await connection.execute(
                f"CREATE SCHEMA rebuild_{name}; CREATE TABLE rebuild_{name}.{name} (x text)"
            )
        skipped = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1", "public"
        )
        async with tables.alone(connection, "notebook_list"):
            ended = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "nbledger", "purge"]
                + [f"--skip={row['tablename']}" for row in skipped],
                env={**os.environ, "NBLEDGER_POSTGRES_DSN": database_dsn},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        assert (ended.returncode, ended.stdout.splitlines()[0]) == (1, "0 tables written anew")
        assert "being rebuilt or verified: rebuild_notebook_list" in ended.stderr
        left = await connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname ~ '^rebuild_'"
        )
        assert [row["nspname"] for row in left] == ["rebuild_notebook_list"]
