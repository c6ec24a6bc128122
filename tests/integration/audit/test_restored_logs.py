"""A database that was restored without events that were signed: it is told, and how to go on."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from support.sealers import Installation, Lacking, installation, sealing, until

from nbledger_audit import logs
from nbledger_domain.transparency.checkpoints import LogCheckpoint, origin_of, read_checkpoint
from nbledger_domain.transparency.notes import read_note

LOSING, OTHER = UUID(int=1), UUID(int=2)
NEW_ORIGIN = "2.ledger.example.com"
TABLES = (
    *("event", "erasure", "transparency_log", "log_tile", "log_bundle", "log_checkpoint"),
    *("log_key", "projection_checkpoint"),
)


async def told(lacking: Lacking, text: str) -> str:
    """Wait until the logs are told with this text."""

    async def found() -> str | None:
        now = lacking.now.get("logs", "")
        return now if text in now else None

    return await until(found)


async def shown(made: Installation, tenant_id: UUID, origin: str) -> tuple[str, LogCheckpoint]:
    """Wait until the log under this origin is published."""

    async def found() -> tuple[str, LogCheckpoint] | None:
        async with made.pool.acquire() as connection:
            published = await logs.published(connection, tenant_id)
        assert published is not None
        checkpoint = read_checkpoint(read_note(published.note))
        named = checkpoint.origin == origin_of(origin, tenant_id)
        return (published.note, checkpoint) if named else None

    return await until(found)


@pytest.mark.guarantee("G40")
async def test_a_restore_that_lost_signed_events_is_told_and_goes_on_under_a_new_origin(
    database_dsn: str, tmp_path: Path
) -> None:
    async with installation(database_dsn, tmp_path) as made:
        await made.record(LOSING, 3)
        await made.record(OTHER, 1)
        async with sealing(made.settings):
            await made.until_signed(LOSING, 3)
            await made.until_signed(OTHER, 1)
        for table in TABLES:
            await made.pool.execute(f"CREATE TABLE backup_{table} AS TABLE {table}")
        await made.record(LOSING, 3)
        async with sealing(made.settings):
            await made.until_signed(LOSING, 6)
        await made.pool.execute(f"TRUNCATE {', '.join(TABLES)}")
        for table in TABLES:
            await made.pool.execute(f"INSERT INTO {table} SELECT * FROM backup_{table}")
        # A cosignature of the old log, which is none of the new one.
        await made.pool.execute(
            "UPDATE log_checkpoint SET cosignatures = E'\u2014 w AAAAAAA=\\n' WHERE tenant_id = $1",
            OTHER,
        )
        await made.pool.execute(
            "UPDATE transparency_log SET witnessed_size = 1, witnessed_at = now()"
            " WHERE tenant_id = $1",
            OTHER,
        )
        async with sealing(made.settings) as lacking:
            await made.record(LOSING, 2)
            await told(lacking, f"the log of tenant {LOSING} has 5 entries, and had 6")
            await made.record(LOSING, 2)
            await told(lacking, "is not what was signed of it at 6 entries (it has 7)")
            await made.record(OTHER, 1)
            await made.until_signed(OTHER, 2)
            assert str(OTHER) not in lacking.now["logs"]
        async with sealing(made.having(origin=NEW_ORIGIN)) as lacking:
            await told(lacking, "is of the log ledger.example.com")
        folder = str(tmp_path / "signed-2")
        async with sealing(made.having(origin=NEW_ORIGIN, state_folder=folder)) as lacking:
            for tenant_id, size in ((LOSING, 7), (OTHER, 2)):
                note, checkpoint = await shown(made, tenant_id, NEW_ORIGIN)
                assert checkpoint.size == size
                assert len(read_note(note).signatures) == 1
            await made.record(LOSING, 1)
            await made.until_signed(LOSING, 8)
            assert lacking.now == {}
