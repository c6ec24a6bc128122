"""Runs while their database is away: for everybody, or for their worker alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from support.executions import SEES_FILES, TERMINAL, Stage, eventually, make_settings, stage
from support.proxy import Proxy, database_proxy

from nbledger_domain.execution import CellStatus, ExecutionStatus, TerminationCode
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.settings import Postgres, Settings

pytestmark = pytest.mark.stalls("its leases last a few seconds of the clock")

LEASE_SECONDS = 3.0


def waiting_cell(folder: Path, number: int) -> str:
    """Code that says that it runs, and ends when it is told to."""
    return (
        "import pathlib, time\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        f"(folder / 'begun-{number}').touch()\n"
        f"while not (folder / 'go-{number}').exists(): time.sleep(0.02)\n"
        f"print({number})"
    )


@asynccontextmanager
async def cut_off(config: Settings) -> AsyncIterator[tuple[Proxy, Settings]]:
    """Settings whose way to the database is a proxy."""
    async with database_proxy(config.postgres.dsn) as (proxy, dsn):
        yield proxy, msgspec.structs.replace(config, postgres=Postgres(dsn=dsn))


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> Settings:
    return make_settings(database_dsn, kafka, topic_prefix, tmp_path, lease_seconds=LEASE_SECONDS)


def roles_of(scene: Stage, config: Settings) -> Stage:
    """A stage that tells of the same executions, whose roles have other settings."""
    return Stage(config, scene.pool, scene.store)


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize("how", ["stalled", "refusing"])
async def test_a_run_outlasts_a_database_that_is_away_for_longer_than_a_lease(
    config: Settings, tmp_path: Path, how: str
) -> None:
    async with stage(config) as scene, cut_off(config) as (proxy, through):
        roles = roles_of(scene, through)
        execution_id = await scene.request(*(waiting_cell(tmp_path, number) for number in range(3)))
        async with roles.sweeper(), roles.worker(**SEES_FILES):
            await scene.command(execution_id)
            await eventually((tmp_path / "begun-0").exists)
            await scene.until(
                execution_id,
                lambda found: found.cell_statuses["cell-001"] is CellStatus.RUNNING,
            )
            if how == "stalled":
                proxy.stall()
            else:
                await proxy.refuse()
            begun = asyncio.get_running_loop().time()
            # The cells go on meanwhile; the last one goes on afterwards, too.
            for number in range(3):
                await eventually((tmp_path / f"begun-{number}").exists)
                if number < 2:
                    (tmp_path / f"go-{number}").touch()
            # By its expiry the lease is long over.
            await asyncio.sleep(begun + 2 * LEASE_SECONDS - asyncio.get_running_loop().time())
            assert not await renewed(scene)
            back_at = datetime.now(UTC)
            if how == "stalled":
                proxy.flow()
            else:
                await proxy.start()
            async with asyncio.timeout(30):
                while not await renewed(scene):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            # Sweeps have their chance.
            await asyncio.sleep(3 * through.recovery.sweep_seconds)
            (tmp_path / "go-2").touch()
            execution = await scene.until(execution_id, seconds=60)
        assert (execution.status, execution.epoch) == (ExecutionStatus.COMPLETED, 1)
        # The last cell ends when the test has seen the lease, so outputs may be saved before it.
        history = [
            recorded
            for recorded in await scene.history(execution_id)
            if not recorded.type.startswith("execution.outputs-saved.")
        ]
        assert [recorded.type.split(".")[1] for recorded in history] == [
            "requested",
            "claimed",
            "started",
            *["cell-started", "cell-executed"] * 3,
            "completed",
        ]
        # What happened while it was away is told with the time at which it happened.
        for recorded in history[4:8]:
            assert recorded.occurred_at < back_at - timedelta(seconds=LEASE_SECONDS / 3)
            assert recorded.recorded_at > back_at - timedelta(seconds=1)


async def renewed(scene: Stage) -> bool:
    """Whether the only lease is good by its expiry."""
    async with acquire(scene.pool) as connection:
        good: bool = await connection.fetchval(
            "SELECT expires_at > clock_timestamp() FROM execution_lease"
        )
    return good


async def test_a_worker_that_is_cut_off_alone_is_taken_over(
    config: Settings, tmp_path: Path
) -> None:
    async with stage(config) as scene, cut_off(config) as (proxy, through):
        roles = roles_of(scene, through)
        execution_id = await scene.request(waiting_cell(tmp_path, 0), "1")
        # The sweeper reaches the database all the time.
        async with scene.sweeper(), roles.worker(**SEES_FILES):
            await scene.command(execution_id)
            await scene.until(
                execution_id,
                lambda found: found.cell_statuses["cell-001"] is CellStatus.RUNNING,
            )
            proxy.stall()
            execution = await scene.until(execution_id)
            assert execution.termination_code is TerminationCode.WORKER_LOST
            (tmp_path / "go-0").touch()
            before = await scene.types(execution_id)
            proxy.flow()
            # It finds that it has lost the run, and has nothing more to say.
            await scene.until_released()
        assert await scene.types(execution_id) == before
        ends = await scene.history(execution_id)
        assert sum(recorded.type in TERMINAL for recorded in ends) == 1
