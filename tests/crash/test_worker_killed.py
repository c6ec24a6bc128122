"""Workers killed in the middle of a run: taken over or failed, once, and no kernel is left."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
import pytest
from support.executions import HELD, TERMINAL, Stage, eventually, hold_kernels, make_settings, stage
from support.workers import of_instance, worker_process

from nbledger_domain.execution import Execution, ExecutionStatus, Phase, TerminationCode
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, open_store
from nbledger_workers.confinement.work_folder import work_folder

pytestmark = pytest.mark.stalls("what follows a kill is bounded in seconds of the clock")


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


@pytest.mark.guarantee("G8")
@pytest.mark.parametrize("moment", ["running", "starting"])
async def test_a_killed_worker_is_taken_over(  # noqa: PLR0917 (fixtures)
    database_dsn: str,
    kafka: str,
    topic_prefix: str,
    tmp_path: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_settings(database_dsn, kafka, topic_prefix, tmp_path, lease_seconds=4.0)
    go = hold_kernels(tmp_path, monkeypatch)
    if moment == "running":
        go.touch()
    worker = msgspec.structs.replace(config.worker, **HELD)
    config = msgspec.structs.replace(config, worker=worker)
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
                go.touch()
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


_HAND_BACK = """
import json, os
from pathlib import Path
results = Path(os.environ["NBLEDGER_RUN_FILE"]).parent / "results"
(results / "model.pkl").write_bytes(b"model")
(results / "000001.part").write_text(json.dumps({"kind": "model", "name": "forest", "files": [
    {"path": "model.pkl", "fileName": "model.pkl", "mediaType": "a/b", "role": "model"}],
    "attributes": {}}))
(results / "000001.part").rename(results / "000001.json")
"""


async def test_what_a_finished_cell_has_handed_back_outlives_the_worker(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    config = make_settings(database_dsn, kafka, topic_prefix, tmp_path, lease_seconds=4.0)
    async with stage(config) as scene:
        execution_id = await scene.request(_HAND_BACK, "import time; time.sleep(60)")
        await killed_when(scene, execution_id, "running")
        async with scene.sweeper():
            execution = await scene.until(execution_id)
        assert execution.termination_code is TerminationCode.WORKER_LOST
        (stored,) = [
            aggregates.decode(recorded)
            for recorded in await scene.history(execution_id)
            if recorded.type == Execution.ArtifactStored.TYPE
        ]
        assert isinstance(stored, Execution.ArtifactStored)
        scope = Scope(scene.tenant_id, scene.project_id, execution.notebook_id)
        artifacts = ArtifactStore(open_store(config.artifacts.url))
        assert await artifacts.get(scope, stored.content.digest) == b"model"
