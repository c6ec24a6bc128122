"""All who change logs lock their rows in one order, so that none waits for another in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs
from support.event_store import open_pool, open_store
from support.sealers import installation, sealing, until
from support.tlog import new_signer
from support.witnessed_log import INSTALLATION, Sealing

from nbledger_audit import logs
from nbledger_audit.cosigning import kept
from nbledger_audit.entries import events_after
from nbledger_audit.outside import deliveries
from nbledger_domain.transparency.notes import COSIGNATURE
from nbledger_domain.transparency.policies import Policy, read_policy
from nbledger_infrastructure.postgres.conflicts import CONFLICTS, retried
from nbledger_infrastructure.postgres.database import Pool, PooledConnection

FIRST, LAST = UUID(int=1), UUID(int=2)

Change = Callable[[PooledConnection], Awaitable[object]]


@pytest.fixture
async def house(database_dsn: str, tmp_path: Path) -> AsyncIterator[Sealing]:
    """Two logs, of which the one that comes last by its tenant is first in the table."""
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        sealing = Sealing(pool, store, tmp_path)
        await sealing.record(3, LAST)
        await sealing.record(3, FIRST)
        await sealing.execute("UPDATE transparency_log SET confirmed_at = '2000-01-01'")
        await sealing.execute("UPDATE transparency_log SET witnessed_size = 3")
        # Updates move rows: the one that comes last is brought to the front again.
        await sealing.execute("VACUUM FULL transparency_log")
        async with pool.acquire() as connection:
            found = await connection.fetch("SELECT tenant_id FROM transparency_log ORDER BY ctid")
        assert [row["tenant_id"] for row in found] == [LAST, FIRST]
        yield sealing


@asynccontextmanager
async def waiting(pool: Pool, change: Change) -> AsyncIterator[PooledConnection]:
    """While somebody has the row of the first log, ``change`` waits for it."""
    async with pool.acquire() as holder, pool.acquire() as changing, pool.acquire() as looking:
        server = await changing.fetchval("SELECT pg_backend_pid()")
        async with holder.transaction():
            await holder.execute("SELECT FROM transparency_log WHERE tenant_id = $1 FOR UPDATE",
                                 FIRST)  # fmt: skip

            async def begin() -> None:
                async with changing.transaction():
                    await change(changing)

            task = asyncio.create_task(begin())

            async def waits() -> bool:
                if task.done():
                    task.result()
                    pytest.fail("it did not wait")
                return bool(
                    await looking.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", server)
                )

            await until(waits)
            yield looking
        await task


async def is_free(connection: PooledConnection, table: str, condition: str) -> None:
    """Raises ``LockNotAvailableError`` where somebody has the rows."""
    await connection.execute(f"SELECT FROM {table} WHERE {condition} FOR UPDATE NOWAIT")


async def test_logs_are_locked_in_order_of_tenants(house: Sealing, tmp_path: Path) -> None:
    witness = new_signer(tmp_path, "witness").key("witness.example/w", COSIGNATURE)

    async def entering(connection: PooledConnection) -> None:
        events = await events_after(connection, 0, 100)
        assert [event.tenant_id for event in events] == [LAST] * 3 + [FIRST] * 3
        await logs.add(connection, events)

    async def renewing(connection: PooledConnection) -> None:
        await kept.renew(connection, witness, renew_seconds=300, retry_seconds=60)

    async def asking(connection: PooledConnection) -> None:
        await deliveries.ask_anew(connection, [FIRST, LAST])

    async def telling(connection: PooledConnection) -> None:
        await kept.tell_policy(connection, Policy(maximum_age=100))

    for change in (renewing, asking, telling, entering):
        async with waiting(house.pool, change) as looking:
            await is_free(looking, "transparency_log", f"tenant_id = '{LAST}'")
    async with house.pool.acquire() as connection:
        grown = await connection.fetch(
            "SELECT size, renewal, witnessed_size FROM transparency_log ORDER BY tenant_id"
        )
    assert [tuple(row) for row in grown] == [(6, True, 0)] * 2


async def test_a_log_is_locked_before_its_checkpoints_and_witnesses(
    house: Sealing, tmp_path: Path
) -> None:
    signer = new_signer(tmp_path, "witness")
    witness = signer.key("witness.example/w", COSIGNATURE)
    policy = read_policy(
        f"# maximum-age 600\nwitness w {witness.encoded} http://127.0.0.1\nquorum w\n"
    )
    async with house.pool.acquire() as connection:
        note = await kept.note_of(connection, FIRST, 3)
        assert note is not None
        assert note.text.startswith(INSTALLATION)
        await kept.note_problem(connection, FIRST, witness, "is away", due=False)
    cosignature = signer.cosign(witness.name, note.text, 1_800_000_000)

    async def keeping(connection: PooledConnection) -> None:
        await kept.keep(connection, FIRST, 3, cosignature, witness=witness, policy=policy)

    async def signing(connection: PooledConnection) -> None:
        await logs.sign(connection, FIRST, 3, str(note))

    async def telling(connection: PooledConnection) -> None:
        await kept.tell_policy(connection, policy)

    for change in (keeping, signing, telling):
        async with waiting(house.pool, change) as looking:
            for table in ("log_checkpoint", "log_witness"):
                await is_free(looking, table, f"tenant_id = '{FIRST}'")
    async with house.pool.acquire() as connection:
        states = await connection.fetch("SELECT size, problem, asked_at FROM log_witness")
        told = await logs.checkpoint(connection, FIRST, 3)
    assert [(row["size"], row["problem"]) for row in states] == [(3, "")]
    assert told == f"{note}{cosignature.line}"


_CONFLICT = """
CREATE SEQUENCE conflict;
CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A sequence goes on, also where its transaction is rolled back.
    IF nextval('conflict') <= 2 THEN
        RAISE EXCEPTION 'deadlock detected' USING ERRCODE = TG_ARGV[0];
    END IF;
    RETURN NEW;
END $$;
"""


@pytest.mark.parametrize("code", ["40P01", "40001"])
async def test_what_conflicts_is_tried_again_quietly(
    database_dsn: str, tmp_path: Path, code: str
) -> None:
    """The sealer keeps the lead; entering, and then signing, conflict twice each."""
    tenant_id = UUID(int=1)
    async with installation(database_dsn, tmp_path) as house:
        async with house.pool.acquire() as connection:
            await connection.execute(_CONFLICT)
            for table in ("transparency_log", "log_checkpoint"):
                await connection.execute(
                    f"CREATE TRIGGER conflict BEFORE INSERT ON {table} "
                    f"FOR EACH ROW EXECUTE FUNCTION conflict('{code}')"
                )
        with capture_logs() as told:
            async with sealing(house.settings):
                await house.record(tenant_id, 3)
                await house.until_signed(tenant_id, 3)
                async with house.pool.acquire() as connection:
                    await connection.execute("ALTER SEQUENCE conflict RESTART")
                await house.record(tenant_id, 2)
                await house.until_signed(tenant_id, 5)
        events = [each["event"] for each in told if each["log_level"] != "debug"]
        assert events.count("sealer at work") == 1
        assert not {"interrupted", "stopped by a fault"} & {*events}
        # One that never ends is told in the end.
        async with house.pool.acquire() as connection:
            await connection.execute("ALTER SEQUENCE conflict MINVALUE -1000 RESTART WITH -1000")
            with pytest.raises(CONFLICTS):
                await retried(lambda: logs.sign(connection, tenant_id, 5, "note"))
