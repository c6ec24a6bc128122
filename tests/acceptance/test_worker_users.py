"""Workers that are no root, and workers whose kernels are another user."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from support import ordinary
from support.executions import Stage, make_settings, stage
from support.ordinary import PROCESSES, needs_root
from support.workers import worker_process

from nbledger_domain.execution import Execution, TerminationCode
from nbledger_infrastructure.settings import Settings
from nbledger_workers.kernel.standalone.isolation import Isolation
from nbledger_workers.kernel.standalone.isolation_probe import available

pytestmark = pytest.mark.timeout(120)

TELL = """
import json, os, tempfile
given = json.load(open(os.environ["NBLEDGER_RUN_FILE"]))["parameters"]
open("made.txt", "w").write("here")
tempfile.TemporaryFile().close()
print(json.dumps([os.getuid(), os.getgroups(), given, os.readlink("/proc/self/ns/pid")]))
"""


needs_ordinary_user = pytest.mark.skipif(bool(ordinary.why_not()), reason=ordinary.why_not())


@pytest.fixture
async def scene(
    database_dsn: str, kafka: str, topic_prefix: str, service_dir: Path
) -> AsyncIterator[Stage]:
    async with stage(make_settings(database_dsn, kafka, topic_prefix, service_dir)) as made:
        yield made


@pytest.fixture(name="ordinary")
def ordinary_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that this test starts as processes are an ordinary user's."""
    ordinary.become(tmp_path, monkeypatch)


def with_worker(scene: Stage, **options: Any) -> Settings:
    changed = msgspec.structs.replace(scene.settings.worker, **options)
    return msgspec.structs.replace(scene.settings, worker=changed)


async def told(scene: Stage, execution_id: UUID) -> Any:
    """What the first cell has printed, which is JSON."""
    (cell, *_) = await scene.events(execution_id, Execution.CellExecuted)
    assert cell.error is None, cell.error
    (form,) = cell.outputs[0].representations
    return json.loads(await scene.content(execution_id, form))


@needs_ordinary_user
@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("options", [{}, {"isolation": "process", "run_as": "1000"}], ids=str)
async def test_an_ordinary_user_runs_notebooks_with_what_there_is(
    scene: Stage, options: dict[str, str]
) -> None:
    execution_id = await scene.request(TELL, parameters={"given": 1})
    async with worker_process(with_worker(scene, **options), str(uuid4())):
        await scene.command(execution_id)
        execution = await scene.until(execution_id, seconds=60)
    assert execution.termination_code is TerminationCode.SUCCESS
    user, _, given, processes = await told(scene, execution_id)
    assert (user, given) == (1000, {"given": 1})
    assert processes == PROCESSES


@needs_ordinary_user
@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolation": "namespaces"}, 'worker.isolation = "namespaces" cannot be had'),
        ({"run_as": "nobody"}, "worker.run_as = 'nobody' needs a worker that is root"),
    ],
    ids=str,
)
async def test_without_what_it_must_have_it_does_not_start(
    scene: Stage, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    log = tmp_path / "log"
    with pytest.raises(AssertionError):
        async with worker_process(with_worker(scene, **options), str(uuid4()), log=log):
            pass
    assert f"IsolationMissingError: {message}" in log.read_text()


@needs_root
@pytest.mark.parametrize("level", ["process", "namespaces"])
async def test_root_runs_notebooks_as_another_user(scene: Stage, level: str) -> None:
    if available(Isolation(level=level)) is not None:
        pytest.skip("this machine offers no namespaces")
    async with scene.worker(isolation=level, run_as="65534"):
        execution = await scene.run(TELL, parameters={"given": 1})
    assert execution.termination_code is TerminationCode.SUCCESS
    *who, processes = await told(scene, execution.id)
    assert who == [65534, [], {"given": 1}]
    shared = processes == PROCESSES
    assert shared == (level == "process")
