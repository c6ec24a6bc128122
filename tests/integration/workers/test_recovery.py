"""Lost commands, a broker that forgets or is away, and attempts that nobody finishes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from support.executions import (
    AS_TESTER,
    HELD,
    TERMINAL,
    Stage,
    eventually,
    hold_kernels,
    make_settings,
    stage,
)

from nbledger.embedded.ports import free_port
from nbledger.embedded.tansu import start_tansu
from nbledger_application import leases, repository
from nbledger_application.lease_watch import LeaseWatch
from nbledger_application.leases import Lease
from nbledger_domain.execution import CellStatus, Execution, ExecutionStatus, Phase, TerminationCode
from nbledger_infrastructure import clock
from nbledger_workers.running.lease_keeper import LeaseKeeper

pytestmark = pytest.mark.stalls("its leases last a few seconds of the clock")


@pytest.mark.guarantee("G8")
@pytest.mark.timeout(180)
async def test_a_broker_that_forgets_loses_nothing(
    database_dsn: str, topic_prefix: str, tmp_path: Path
) -> None:
    broker = await start_tansu(tmp_path / "tansu.log")
    port = int(broker.bootstrap_servers.rsplit(":", 1)[1])
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix, tmp_path)
    async with stage(config) as scene:
        try:
            async with scene.worker(concurrency=1), scene.sweeper():
                # So that positions of the worker are beyond what the new broker will have.
                first = [await scene.request("1") for _ in range(2)]
                await scene.command(*first, *first, *first)
                for execution_id in first:
                    await scene.until(execution_id)
                await broker.stop()
                lost = await scene.request("2")
                broker = await start_tansu(tmp_path / "tansu.log", port=port)
                # Most of it is the group's: members of before have to be given up first.
                execution = await scene.until(lost, seconds=120)
                assert execution.status is ExecutionStatus.COMPLETED
        finally:
            await broker.stop()


async def test_a_worker_starts_when_the_broker_comes_back(
    database_dsn: str, topic_prefix: str, tmp_path: Path
) -> None:
    port = free_port()
    config = make_settings(database_dsn, f"127.0.0.1:{port}", topic_prefix, tmp_path)
    async with (
        stage(config) as scene,
        scene.worker(wait=False) as ready,
        scene.sweeper(),
    ):
        execution_id = await scene.request("1")
        await asyncio.sleep(0.5)
        assert not ready.is_set()
        broker = await start_tansu(tmp_path / "tansu.log", port=port)
        try:
            execution = await scene.until(execution_id, seconds=40)
            assert execution.status is ExecutionStatus.COMPLETED
            # It may have found the work before it heard of the broker.
            async with asyncio.timeout(40):
                await ready.wait()
        finally:
            await broker.stop()


async def claim(scene: Stage, execution_id: UUID) -> None:
    await repository.update(
        scene.store,
        Execution,
        execution_id,
        lambda execution: execution.claim("gone", at=clock.now()),
        AS_TESTER,
    )


@pytest.mark.guarantee("G11")
async def test_attempts_without_a_living_worker_wait_again_until_the_cap(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    # A claim without a lease is waited for as long as a lease lasts.
    config = make_settings(database_dsn, kafka, topic_prefix, tmp_path, lease_seconds=4.0)
    async with stage(config) as scene:
        leased, unleased = await scene.request("1"), await scene.request("1")
        await claim(scene, leased)
        await claim(scene, unleased)
        assert await leases.take(scene.pool, Lease(leased, 1), "gone", seconds=0.01)
        # Two of them: one sweeps.
        async with scene.sweeper(), scene.sweeper():
            for epoch in range(1, scene.settings.recovery.max_attempts + 1):
                execution = await scene.until(
                    leased, lambda execution: execution.ended or execution.phase is Phase.QUEUED
                )
                if epoch == scene.settings.recovery.max_attempts:
                    break
                await claim(scene, leased)
                assert await leases.take(scene.pool, Lease(leased, epoch + 1), "gone", seconds=0.01)
            execution = await scene.until(leased)
            assert execution.termination_code is TerminationCode.WORKER_LOST
            await scene.until(unleased, lambda execution: execution.phase is Phase.QUEUED)
        types = await scene.types(leased)
        assert types.count("attempt-lost") == scene.settings.recovery.max_attempts - 1
        assert sum(recorded.type in TERMINAL for recorded in await scene.history(leased)) == 1
        assert await scene.types(unleased) == ["requested", "claimed", "attempt-lost"]
        assert await scene.leases() == 0


async def renew(
    connection: Any, lease: Lease, worker_id: str, *, seconds: float = 20
) -> dict[UUID, bool]:
    return await leases.renew(connection, worker_id, [lease], seconds=seconds)


@pytest.mark.guarantee("G9")
async def test_a_lease_is_renewed_until_its_attempt_is_taken_away(scene: Stage) -> None:
    execution_id = await scene.request("1")
    await claim(scene, execution_id)
    watch = LeaseWatch(scene.pool, lease_seconds=20, every_seconds=2)
    live, old = Lease(execution_id, 2), Lease(execution_id, 1)
    assert await leases.take(scene.pool, old, "first", seconds=20)
    assert await leases.take(scene.pool, live, "second", seconds=20)
    assert not await leases.take(scene.pool, old, "first", seconds=20)
    # Whoever was not told that it has come through asks again; nobody else has the same epoch.
    assert await leases.take(scene.pool, live, "second", seconds=20)
    assert not await leases.take(scene.pool, live, "first", seconds=20)
    async with scene.pool.acquire() as connection:
        assert await renew(connection, old, "first") == {}
        assert await renew(connection, live, "first") == {}
        assert await renew(connection, live, "second") == {execution_id: False}
        await scene.cancel(execution_id, tell=False)
        await watch.sign()
        assert await watch.expired() == []
        assert await renew(connection, live, "second", seconds=0.05) == {execution_id: True}
        await connection.execute("SELECT pg_sleep(0.06)")
        assert [each.epoch for each in await watch.expired()] == [2]
        # Its worker was late, but nobody was quicker.
        assert await renew(connection, live, "second") == {execution_id: True}
        assert await watch.expired() == []
        await leases.release(scene.pool, live)
        assert await renew(connection, live, "second") == {}


@pytest.mark.guarantee("G10")
async def test_leases_are_good_after_a_time_in_which_nobody_could_renew(scene: Stage) -> None:
    execution_id = await scene.request("1")
    lease = Lease(execution_id, 1)
    watch = LeaseWatch(scene.pool, lease_seconds=20, every_seconds=2)
    assert await leases.take(scene.pool, lease, "first", seconds=-1)

    async def after(change: str) -> tuple[list[int], bool]:
        """What is lost after such a change, at the next sign and when all was calm since."""
        await scene.pool.execute("DELETE FROM lease_watch")
        await watch.sign()
        assert [each.epoch for each in await watch.expired()] == [1]
        assert await watch.is_calm()
        await scene.pool.execute(f"UPDATE lease_watch SET {change}")
        # A sweep that was under way, or comes before the next sign.
        assert await watch.expired() == []
        assert not await watch.is_calm()
        await watch.sign()
        lost = [each.epoch for each in await watch.expired()]
        calm = await watch.is_calm()
        # As after a lease's length in which signs were left.
        await scene.pool.execute("UPDATE lease_watch SET grace_until = clock_timestamp()")
        await watch.sign()
        assert [each.epoch for each in await watch.expired()] == [1]
        return lost, calm

    gap = "seen_at = seen_at - interval '40 seconds'"
    restart = "server_started_at = server_started_at - interval '1 hour'"
    assert await after(gap) == ([], False)
    assert await after(restart) == ([], False)
    # A clock that was set back: nothing is lost too early, and nothing is good for an hour.
    await scene.pool.execute("UPDATE lease_watch SET seen_at = seen_at + interval '1 hour'")
    await scene.pool.execute("UPDATE execution_lease SET expires_at = expires_at + interval '1 h'")
    await watch.sign()
    assert await watch.expired() == []
    assert not await watch.is_calm()
    left = await scene.pool.fetchval(
        "SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM execution_lease"
    )
    assert left <= 20


async def test_cut_connections_lose_no_step_and_double_none(scene: Stage) -> None:
    cells = 30
    execution_id = await scene.request(*["import time; time.sleep(0.05)"] * cells)
    async with scene.worker():
        await scene.command(execution_id)
        for number in range(1, cells, 4):
            await scene.until(
                execution_id,
                lambda execution, number=number: (  # type: ignore[misc]
                    execution.ended
                    or execution.cell_statuses[f"cell-{number:03d}"] is not CellStatus.PENDING
                ),
            )
            async with scene.pool.acquire() as connection:
                await connection.execute(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE application_name IN ('nbledger-worker', 'nbledger-leases')
                        AND datname = current_database()
                    """
                )
        execution = await scene.until(execution_id)
    assert execution.status is ExecutionStatus.COMPLETED
    assert await scene.types(execution_id) == [
        "requested",
        "claimed",
        "started",
        *["cell-started", "cell-executed"] * cells,
        "completed",
    ]


@pytest.mark.guarantee("G11")
async def test_no_cell_acts_before_it_is_recorded_that_cells_run(
    scene: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold_kernels(tmp_path, monkeypatch)
    mark = tmp_path / "acted"
    execution_id = await scene.request(f"open({str(mark)!r}, 'a').write('x')")
    # In namespaces the kernel has a /tmp of its own, and nothing would be seen here.
    async with scene.worker(**HELD), scene.pool.acquire() as connection:
        await scene.command(execution_id)
        await scene.until(execution_id, lambda execution: execution.phase is Phase.STARTING)
        # What an append waits for: the store takes nothing from here on.
        await connection.execute("SELECT pg_advisory_lock(8242543731)")
        go.touch()
        with pytest.raises(TimeoutError):
            await eventually(mark.exists, seconds=2.5)
        await connection.execute("SELECT pg_advisory_unlock(8242543731)")
        execution = await scene.until(execution_id)
    assert execution.status is ExecutionStatus.COMPLETED
    assert mark.read_text() == "x"


async def test_leases_are_renewed_again_whatever_the_database_answered(scene: Stage) -> None:
    execution_id = await scene.request("1")
    await claim(scene, execution_id)
    lease, lost = Lease(execution_id, 1), asyncio.Event()
    assert await leases.take(scene.pool, lease, "first", seconds=30)
    keeper = LeaseKeeper(
        scene.settings.postgres.dsn,
        "first",
        lease_seconds=30.0,
        renew_seconds=0.05,
        away_seconds=30.0,
    )
    await keeper.start()
    keeper.hold(lease, taken_at=time.monotonic(), on_lost=lost.set, on_cancel=lambda: None)
    try:
        async with scene.pool.acquire() as connection:

            async def asked(query: str) -> Any:
                return await connection.fetchval(query)

            sessions = """
                SELECT min(pid) FROM pg_stat_activity
                WHERE application_name = 'nbledger-leases' AND datname = current_database()
            """
            async with asyncio.timeout(15):
                while (first := await asked(sessions)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                # As after a failover to a server that is not ready for it yet.
                await connection.execute("ALTER TABLE execution_lease RENAME TO elsewhere")
                while await asked(sessions) == first:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                await connection.execute("ALTER TABLE elsewhere RENAME TO execution_lease")
                before = await asked("SELECT expires_at FROM execution_lease")
                while await asked("SELECT expires_at FROM execution_lease") == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                # What was opened in vain is closed again.
                while await asked(sessions.replace("min(pid)", "count(*)")) > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        assert not lost.is_set()
    finally:
        await keeper.close()
