"""Workers take runs in fair order and within limits, whoever else waits or dies."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from support.executions import HELD, Stage, eventually, hold_kernels, make_settings, stage
from support.fair_queue import shares
from support.workers import of_instance, worker_process

from nbledger_domain.execution import Execution, ExecutionStatus, Phase
from nbledger_infrastructure import settings
from nbledger_infrastructure.postgres.event_store import RecordedEvent

CROWD = 1_000
AT_ONCE = 50


async def claims(scene: Stage, after: int) -> list[RecordedEvent]:
    """The claims recorded after a position, in order."""
    found = await scene.store.read_all(after_position=after, limit=10_000)
    return [recorded for recorded in found if recorded.type == Execution.Claimed.TYPE]


@pytest.mark.guarantee("G30")
async def test_a_single_run_starts_after_one_of_a_crowd_at_the_most(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = make_settings(database_dsn, kafka, topic_prefix, tmp_path)
    async with stage(config) as scene:
        first = await scene.request("1")
        crowd = [first]
        while len(crowd) <= CROWD:
            crowd += await asyncio.gather(*(scene.again(first) for _ in range(AT_ONCE)))
        other = Stage(scene.settings, scene.pool, scene.store)
        async with scene.worker(concurrency=1):
            await scene.until(first)
            single = await other.request("2")
            asked = (await other.history(single))[0].position
            execution = await other.until(single)
            assert execution.status is ExecutionStatus.COMPLETED
            taken = [recorded.stream_id for recorded in await claims(scene, asked)]
        before = taken[: taken.index(single)]
        assert len(before) <= 1, "no command told of it: it is found, and it is its turn"
        assert set(taken) - {single} <= set(crowd)


@pytest.mark.guarantee("G32")
@pytest.mark.stalls("its leases last a few seconds of the clock")
async def test_limits_hold_for_workers_and_outlive_one_that_is_killed_with_its_claim(
    database_dsn: str,
    kafka: str,
    topic_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_settings(database_dsn, kafka, topic_prefix, tmp_path, lease_seconds=4.0)
    go = hold_kernels(tmp_path, monkeypatch)
    config = msgspec.structs.replace(
        config,
        worker=msgspec.structs.replace(config.worker, **HELD),
        queue=settings.Queue(max_running_per_tenant=2),
    )
    async with stage(config) as scene:
        first = await scene.request("1", most=1)
        second = await scene.again(first)
        others = [await scene.request("2"), await scene.request("3")]
        instance = str(uuid.uuid4())
        async with worker_process(scene.settings, instance) as process:
            await scene.command(first)

            def is_claimed(execution: Execution) -> bool:
                return execution.phase is Phase.STARTING

            await scene.until(first, is_claimed)
            await scene.until(others[0], is_claimed)
            process.kill()
            await process.wait()
            await eventually(lambda: not of_instance(instance))
        go.touch()
        async with scene.sweeper(), scene.worker(concurrency=3), scene.worker(concurrency=3):
            for execution_id in (first, second, *others):
                execution = await scene.until(execution_id, seconds=60)
                assert execution.status is ExecutionStatus.COMPLETED
        assert _most_at_once(await scene.store.read_all(after_position=0, limit=10_000)) <= 2
        assert _most_at_once([*await scene.history(first), *await scene.history(second)]) == 1
        kept, counted = await shares(scene.pool)
        assert (kept, counted) == ([], [])


def _most_at_once(recorded: list[RecordedEvent]) -> int:
    """How many runs were claimed at one moment."""
    held: set[UUID] = set()
    most = 0
    for each in sorted(recorded, key=lambda each: each.position):
        if each.type == Execution.Claimed.TYPE:
            held.add(each.stream_id)
            most = max(most, len(held))
        elif each.type in {Execution.AttemptLost.TYPE, Execution.Completed.TYPE}:
            held.discard(each.stream_id)
    return most
