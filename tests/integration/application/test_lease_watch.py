"""Signs of life are left whatever the database answers, and nobody sweeps without them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.event_store import connect, open_pool, open_store
from support.executions import make_settings

from nbledger_application.lease_watch import LeaseWatch
from nbledger_workers.sweeping import sweeper


@pytest.mark.guarantee("G8")
async def test_signs_are_left_again_whatever_the_database_answered(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool, connect(database_dsn) as owner:
        await owner.execute("ALTER TABLE lease_watch RENAME TO mislaid")
        watch = LeaseWatch(pool, lease_seconds=20, every_seconds=0.01)
        with capture_logs() as told:
            watching = asyncio.create_task(watch.run())
            try:
                async with asyncio.timeout(30):
                    while not any(entry["log_level"] == "error" for entry in told):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    await owner.execute("ALTER TABLE mislaid RENAME TO lease_watch")
                    while not await owner.fetchval("SELECT 1 FROM lease_watch"):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert not watching.done()
            finally:
                watching.cancel()
                await asyncio.wait({watching})


async def test_a_sweeper_without_a_watch_ends(
    database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(_: LeaseWatch) -> None:
        raise RuntimeError("the watch has ended")

    monkeypatch.setattr(LeaseWatch, "run", end)
    async with open_pool(database_dsn) as pool, open_store(pool) as store, asyncio.timeout(30):
        sweeps = sweeper._Sweeper(make_settings(database_dsn, "", "", tmp_path), pool, store)
        with pytest.raises(ExceptionGroup) as ended:
            await sweeps.sweep_until(asyncio.Event(), lambda: None)
    assert [str(each) for each in ended.value.exceptions] == ["the watch has ended"]
