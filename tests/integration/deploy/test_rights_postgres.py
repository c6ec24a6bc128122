"""Each role with a database user that has the rights of `deploy/postgres/roles.sql` alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from support.lineage import documents, states
from support.paths import ROOT
from support.receivers import receiver
from support.roles import ROLES, check_roles_work, database_users


@pytest.fixture
async def users(database_dsn: str) -> AsyncIterator[dict[str, str]]:
    """DSNs of the users, by role."""
    async with database_users(database_dsn) as dsns:
        yield dsns


async def refused(dsn: str, *statements: str) -> list[str]:
    """The statements that this user may not run."""
    connection = await asyncpg.connect(dsn, timeout=10)
    found = []
    try:
        for statement in statements:
            try:
                async with connection.transaction():
                    await connection.execute(statement, timeout=10)
            except asyncpg.InsufficientPrivilegeError:
                found.append(statement)
    finally:
        await connection.close(timeout=10)
    return found


@pytest.mark.guarantee("G6")
@pytest.mark.parametrize("role", [*ROLES, "auditor"])
async def test_no_role_writes_the_history(users: dict[str, str], role: str) -> None:
    statements = [
        "UPDATE event SET data = NULL",
        "UPDATE event SET type = 'other'",
        "DELETE FROM event",
        "TRUNCATE event",
        "INSERT INTO event SELECT * FROM event",
        "INSERT INTO erasure VALUES (gen_random_uuid(), 1)",
        "UPDATE execution_queue SET priority = 'High'",
        "DELETE FROM execution_queue",
        "UPDATE queue_share SET running = 0",
        "DELETE FROM notebook_run_limit",
        "UPDATE idempotency_key SET answer = NULL",
        "ALTER TABLE event DISABLE TRIGGER ALL",
        "DROP TABLE event",
        "CREATE TABLE own (one integer)",
        "CREATE OR REPLACE FUNCTION erase_subject(erased uuid) RETURNS bigint RETURN 1",
    ]

    assert await refused(users[role], *statements) == statements


async def test_tokens_are_the_api_s_alone(users: dict[str, str]) -> None:
    reads = ("SELECT * FROM api_token", "SELECT * FROM secret_key")

    assert await refused(users["api"], *reads, "DELETE FROM api_token") == ["DELETE FROM api_token"]
    for role in ("relay", "projector", "sealer", "worker", "auditor"):
        assert await refused(users[role], *reads) == list(reads)


async def test_names_are_the_api_s_to_read_and_nobody_s_to_write(users: dict[str, str]) -> None:
    read = "SELECT * FROM principal"
    writes = ["UPDATE principal SET name = 'x'", "DELETE FROM principal"]

    assert [role for role in users if not await refused(users[role], read)] == ["api"]
    for dsn in users.values():
        assert await refused(dsn, *writes) == writes


async def test_what_waits_is_known_without_a_read_model(users: dict[str, str]) -> None:
    waits = ("SELECT * FROM execution_queue", "SELECT * FROM execution_lease")
    statuses = "SELECT * FROM execution_status"

    assert await refused(users["worker"], *waits, statuses) == [statuses]
    # The relay publishes states, and changes none.
    changes = "UPDATE execution_status SET version = 0"
    assert await refused(users["relay"], *waits, statuses, changes) == [changes]
    assert await refused(users["relay"], "SELECT * FROM execution_results") != []
    for role in ("projector", "sealer", "auditor"):
        assert await refused(users[role], *waits) == list(waits)
    # The API tells where a run stands.
    assert await refused(users["api"], *waits) == [waits[1]]
    assert await refused(users["api"], "SELECT * FROM execution_usage", statuses) == []
    # And how many runs a schedule has left.
    counts = ("SELECT runs FROM schedule", "UPDATE schedule SET runs = 0")
    assert await refused(users["api"], *counts) == [counts[1]]


async def test_only_the_projector_erases(users: dict[str, str]) -> None:
    erase = "SELECT erase_subject(gen_random_uuid())"

    allowed = [role for role in users if not await refused(users[role], erase)]

    assert allowed == ["projector"]


async def test_only_the_relay_repairs_the_queue(users: dict[str, str]) -> None:
    repair = "SELECT repair_queue('{}', '{}', gen_random_uuid(), 1)"

    allowed = [role for role in users if not await refused(users[role], repair)]

    assert allowed == ["relay"]


async def test_the_sealer_sees_no_data_and_alone_writes_logs(users: dict[str, str]) -> None:
    data = ("SELECT data FROM event", "SELECT salt FROM event", "SELECT * FROM event")
    assert await refused(users["sealer"], "SELECT digest FROM event", *data) == list(data)
    logs = ("bundle", "checkpoint", "delivery", "key", "policy", "tile", "timestamp", "witness")
    for table in ("transparency_log", *(f"log_{each}" for each in logs)):
        reads = [role for role in users if not await refused(users[role], f"SELECT FROM {table}")]
        assert sorted(reads) == ["api", "auditor", "sealer"]
        write = f"INSERT INTO {table} SELECT * FROM {table}"
        assert [role for role in users if not await refused(users[role], write)] == ["sealer"]
        delete = f"DELETE FROM {table}"
        assert await refused(users["sealer"], delete) == [delete]


async def test_workers_ask_what_is_next_and_the_relay_forgets_shares(users: dict[str, str]) -> None:
    ask = "SELECT next_waiting('{python3}', '{High}', 1, 1, '{}')"
    forget = "SELECT forget_shares(1)"

    assert [role for role in users if not await refused(users[role], ask)] == ["worker"]
    assert [role for role in users if not await refused(users[role], forget)] == ["relay"]


async def test_every_table_and_function_is_decided_on(database_dsn: str) -> None:
    """One that is new must be given to somebody, or left out on purpose, in the file."""
    connection = await asyncpg.connect(database_dsn, timeout=10)
    try:
        rows = await connection.fetch(
            """
            SELECT relname AS name FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
            UNION ALL
            SELECT proname FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace AND provolatile = 'v'
            """
        )
    finally:
        await connection.close(timeout=10)
    text = (ROOT / "deploy/postgres/roles.sql").read_text()

    undecided = {row["name"] for row in rows if row["name"] not in text}

    # The owner's own list of what was migrated.
    assert undecided == {"schema_migration"}


@pytest.mark.timeout(180)
async def test_the_roles_do_their_work_with_these_rights(
    database_dsn: str, users: dict[str, str], kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    broker = {
        "NBLEDGER_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "NBLEDGER_KAFKA_TOPIC_PREFIX": topic_prefix,
        "NBLEDGER_KAFKA_IDEMPOTENT": "false",
    }

    async with receiver() as there:
        broker |= {
            "NBLEDGER_LINEAGE_TRANSPORT": "http",
            "NBLEDGER_LINEAGE_URL": there.url.removesuffix("/hook"),
        }
        await check_roles_work(
            database_dsn,
            {name: {**broker, "NBLEDGER_POSTGRES_DSN": users[name]} for name in ROLES},
            tmp_path,
        )
        told = states(documents(there.got))
    assert [run[0] for run in told.values()] == ["START", "START"]
    assert any(run[-1] == "COMPLETE" for run in told.values())
