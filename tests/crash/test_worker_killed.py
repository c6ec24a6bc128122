"""Workers killed in the middle of a run: taken over or failed, once, and no kernel is left."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from support.executions import TERMINAL, Stage, eventually, make_settings, stage

from nbledger_domain.execution import Execution, ExecutionStatus, Phase, TerminationCode
from nbledger_infrastructure.settings import Settings
from nbledger_workers.work_folder import work_folder

pytestmark = pytest.mark.kafka

PROGRAM = """
import asyncio
from nbledger_infrastructure.settings import load
from nbledger_workers import worker
asyncio.run(worker.run(load(), asyncio.Event(), lambda: print("ready", flush=True)))
"""


@asynccontextmanager
async def worker_process(
    config: Settings, instance: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    given = {
        f"NBLEDGER_{section}_{field}".upper(): str(getattr(getattr(config, section), field))
        for section, field in (
            ("postgres", "dsn"),
            ("kafka", "bootstrap_servers"),
            ("kafka", "topic_prefix"),
            ("kafka", "idempotent"),
            ("kafka", "partitions"),
            ("kafka", "session_timeout_seconds"),
            ("artifacts", "url"),
            ("worker", "lease_seconds"),
            ("worker", "renew_seconds"),
            ("worker", "work_folder"),
        )
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        env=os.environ | given | {"NBLEDGER_INSTANCE": instance},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            lines = [await process.stdout.readline()]
            while lines[-1] not in (b"ready\n", b""):
                lines.append(await process.stdout.readline())
        assert lines[-1], lines
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def of_instance(instance: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("NBLEDGER_INSTANCE") == instance:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


async def killed_when(scene: Stage, execution_id: uuid.UUID, moment: str) -> None:
    """Run in a worker that is killed at the moment; returns when all its processes are gone."""
    instance = str(uuid.uuid4())
    async with worker_process(scene.settings, instance) as process:
        await scene.command(execution_id)

        def come(execution: Execution) -> bool:
            if moment == "running":
                return execution.running_cell == "cell-002"
            return execution.phase is Phase.STARTING

        await scene.until(execution_id, come)
        process.kill()
        await process.wait()
        await eventually(lambda: not of_instance(instance))


@pytest.mark.parametrize("moment", ["running", "starting"])
async def test_a_killed_worker_is_taken_over(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path, moment: str
) -> None:
    config = make_settings(database_dsn, kafka, topic_prefix, tmp_path)
    async with stage(config) as scene:
        execution_id = await scene.request(
            "1", "import time; time.sleep(60)" if moment == "running" else "2"
        )
        await killed_when(scene, execution_id, moment)
        async with scene.sweeper():
            if moment == "running":
                execution = await scene.until(execution_id)
                assert execution.termination_code is TerminationCode.WORKER_LOST
            else:
                async with scene.worker():
                    execution = await scene.until(execution_id, seconds=40)
                assert execution.status is ExecutionStatus.COMPLETED
                assert execution.epoch == 2
        # The next worker has tidied up, or will.
        with work_folder(Path(config.worker.work_folder)) as folder:
            assert [path.name.removesuffix(".lock") for path in folder.parent.iterdir()] == [
                folder.name
            ] * 2
        types = [recorded.type for recorded in await scene.history(execution_id)]
        assert sum(each in TERMINAL for each in types) == 1
        assert types.count(Execution.AttemptLost.TYPE) == 1
        assert await scene.leases() == 0
