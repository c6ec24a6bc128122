"""A log that is damaged is told and stands still, all others go on, and it does once repaired."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from support.sealers import Installation, Lacking, installation, sealing, until

from nbledger_audit import logs
from nbledger_audit.entries import events_after

DAMAGE = {
    "no tiles": "DELETE FROM log_tile WHERE tenant_id = $1",
    "short tile": "UPDATE log_tile SET hashes = substr(hashes, 1, 32) WHERE tenant_id = $1",
    "odd tile": "UPDATE log_tile SET hashes = substr(hashes, 1, 33) WHERE tenant_id = $1",
    "positions": "UPDATE log_bundle SET positions = positions[1:2] WHERE tenant_id = $1",
    "size": "UPDATE transparency_log SET size = 3 WHERE tenant_id = $1",
}
TABLES = ("log_tile", "log_bundle", "transparency_log")
DAMAGED = {what: UUID(int=number) for number, what in enumerate(DAMAGE, 1)}
UNREADABLE = UUID(int=20)
OTHER = UUID(int=30)
TENANTS = [*DAMAGED.values(), UNREADABLE, OTHER]


async def lacking(told: Lacking, tenants: set[UUID]) -> str:
    """Wait until the logs of exactly these tenants are told."""

    async def found() -> str | None:
        now = told.now.get("logs", "")
        named = {each for each in TENANTS if str(each) in now}
        return (now or "nothing") if named == tenants else None

    return await until(found)


@pytest.mark.guarantee("G40")
async def test_a_damaged_log_stops_no_other_one(database_dsn: str, tmp_path: Path) -> None:
    async with installation(database_dsn, tmp_path) as made:
        for tenant_id in TENANTS:
            await made.record(tenant_id, 4)
        async with sealing(made.settings) as told:
            for tenant_id in TENANTS:
                await made.until_signed(tenant_id, 4)
            state = tmp_path / "signed" / f"{UNREADABLE}.signed" / "4"
            good = state.read_bytes()
            state.write_bytes(b"\xff\xfe")
            for table in TABLES:
                await made.pool.execute(f"CREATE TABLE saved_{table} AS TABLE {table}")
            for what, tenant_id in DAMAGED.items():
                await made.pool.execute(DAMAGE[what], tenant_id)
            for tenant_id in TENANTS:
                await made.record(tenant_id, 2)
            await made.until_signed(OTHER, 6)
            problem = await lacking(told, {*TENANTS} - {OTHER})
            assert "it has 4 entries, and names the events of 2" in problem
            assert "it has 3 entries, and names the events of 4" in problem
        # A sealer that starts with all this does so, and finds what was passed over.
        async with sealing(made.settings) as told:
            await made.record(OTHER, 1)
            await made.until_signed(OTHER, 7)
            await lacking(told, {*TENANTS} - {OTHER})
            await _repair(made)
            state.write_bytes(good)
            for tenant_id in DAMAGED.values():
                await made.until_signed(tenant_id, 6)
            await lacking(told, set())
            for tenant_id in TENANTS:
                await made.record(tenant_id, 300)
            for tenant_id in TENANTS:
                await made.until_signed(tenant_id, 307 if tenant_id == OTHER else 306)
        await _check(made)


async def _repair(made: Installation) -> None:
    """Put back what was damaged, as of before."""
    async with made.pool.acquire() as connection, connection.transaction():
        for table in TABLES:
            await connection.execute(
                f"DELETE FROM {table} WHERE tenant_id = ANY($1)", list(DAMAGED.values())
            )
            await connection.execute(
                f"INSERT INTO {table} SELECT * FROM saved_{table} WHERE tenant_id = ANY($1)",
                list(DAMAGED.values()),
            )


async def _check(made: Installation) -> None:
    """Each log names all events of its tenant, in order, and its checkpoints go on."""
    async with made.pool.acquire() as connection:
        events = await events_after(connection, 0, 10_000)
        for tenant_id in TENANTS:
            rows = await connection.fetch(
                "SELECT positions FROM log_bundle WHERE tenant_id = $1 ORDER BY index", tenant_id
            )
            entered = [position for row in rows for position in row["positions"]]
            assert entered == [e.position for e in events if e.tenant_id == tenant_id]
            signed = await logs.checkpoints_after(connection, tenant_id, 0, 100)
            await made.check_history([each.note for each in signed], tenant_id)
