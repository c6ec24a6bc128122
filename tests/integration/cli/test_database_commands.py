"""Commands of an operator tell in one line that they have no database to work on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from support.event_store import open_pool

from nbledger.embedded.ports import free_port

NOBODY = "00000000-0000-0000-0000-000000000000"
COMMANDS = (
    ("audit", "verify"),
    ("audit", "export", "--tenant", NOBODY, "--no-artifacts", "not-there"),
    ("token", "list"),
    ("principals", "list"),
    ("projections", "rebuild", "notebook_list"),
    ("projections", "status"),
    ("migrate",),
)


def nbledger(dsn: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbledger", *command],
        env={**os.environ, "NBLEDGER_POSTGRES_DSN": dsn},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_database_that_is_away_is_told_with_its_place_alone(command: tuple[str, ...]) -> None:
    port = free_port()
    ended = nbledger(f"postgresql://ann:secret@127.0.0.1:{port}/ledger", *command)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"Error: the database at 127.0.0.1:{port}/ledger: the database cannot be reached\n"
    )


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_a_database_without_the_schema_is_told_what_to_do(
    postgres_dsn: str, command: tuple[str, ...]
) -> None:
    ended = nbledger(postgres_dsn, *command)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.endswith("has not this version's schema: nbledger migrate")


async def test_a_session_that_the_server_ends_is_told_in_one_line(database_dsn: str) -> None:
    """A purge that waits for a table, and whose session an operator ends."""
    waiting = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'VACUUM (FULL) "event"%'
    """
    async with open_pool(database_dsn) as pool, pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE event IN ACCESS SHARE MODE")
        purging = asyncio.create_task(asyncio.to_thread(nbledger, database_dsn, "purge"))
        async with asyncio.timeout(60):
            while not await pool.fetch(waiting):
                assert not purging.done(), purging.result().stderr
                await asyncio.sleep(0.02)
            ended = await purging
    (told,) = [line for line in ended.stderr.splitlines() if not line.startswith("writing ")]
    assert ended.returncode == 2
    assert told.startswith(f"Error: the database at {database_dsn.rpartition('@')[2]}: ")
    assert told.endswith("terminating connection due to administrator command")
