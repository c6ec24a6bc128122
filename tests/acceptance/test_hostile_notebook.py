"""A notebook that means harm, at each level of isolation: what the documentation says is true.

`make isolation-table` writes into the documentation what is seen.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import Any
from uuid import UUID, uuid4

import msgspec
import nbledger_workers
import pytest
from support import hostile, ordinary
from support.executions import Stage, make_settings, stage
from support.wheels import make_wheel
from support.workers import worker_process

from nbledger_domain.execution import Execution, TerminationCode
from nbledger_infrastructure import kafka as brokers
from nbledger_infrastructure.artifacts import ArtifactStore, Scope, open_store
from nbledger_infrastructure.settings import Health, Settings
from nbledger_workers.kernel.isolation import Isolation, available, can_close_ports, keeps_signals

pytestmark = pytest.mark.timeout(240)

REWRITE = bool(os.environ.get("NBLEDGER_REWRITE_ISOLATION_TABLE"))


@pytest.fixture
def home() -> Iterator[Path]:
    """A home as `nbledger up` makes it, with the folder of another run and a folder of others."""
    folder = Path(mkdtemp(prefix="nbh-", dir="/tmp"))
    folder.chmod(0o711)
    for name, mode in (("artifacts", 0o700), ("work", 0o755), ("work/nbledger-worker-x", 0o755)):
        (folder / name).mkdir(mode=mode)
    (folder / "work/nbledger-worker-x/run-x").mkdir(mode=0o700)
    for name in ("server.json", "nbledger.toml", "work/nbledger-worker-x/run-x/data"):
        (folder / name).write_text("# secret\n")
        (folder / name).chmod(0o600)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def left() -> Iterator[Path]:
    """A file that somebody has left in /tmp, for all to read."""
    with NamedTemporaryFile(prefix="nbh-", dir="/tmp") as file:
        file.write(b"of somebody else\n")
        file.flush()
        Path(file.name).chmod(0o644)
        yield Path(file.name)


@pytest.fixture
async def scene(
    database_dsn: str, kafka: str, topic_prefix: str, home: Path
) -> AsyncIterator[Stage]:
    settings = make_settings(database_dsn, kafka, topic_prefix, home)
    async with stage(settings) as made:
        yield made


@contextmanager
def system_service() -> Iterator[tuple[str, int]]:
    """A socket in /run that anybody may open, and a port that stands for the health checks."""
    folder = Path(mkdtemp(prefix="nbh-", dir="/run"))
    folder.chmod(0o755)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.create_server(("127.0.0.1", 0)) as web:
            server.bind(str(folder / "s"))
            server.listen()
            (folder / "s").chmod(0o777)
            yield str(folder / "s"), web.getsockname()[1]
    finally:
        shutil.rmtree(folder)


def _skip_unless_offered(level: str, who: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can take another user")
    if who != "root" and ordinary.why_not():
        pytest.skip(ordinary.why_not())
    if (missing := available(Isolation(level=level))) is not None:
        pytest.skip(missing)
    if not can_close_ports() or not keeps_signals():
        pytest.skip("this system's Landlock is older than what the table tells of")


@pytest.mark.parametrize("column", hostile.COLUMNS)
async def test_what_a_hostile_notebook_gets_is_what_the_documentation_says(
    scene: Stage,
    home: Path,
    left: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    column: str,
) -> None:
    level, who = hostile.COLUMNS[column]
    _skip_unless_offered(level, who)
    if who != "root":
        ordinary.become(tmp_path, monkeypatch, namespaces=level == "namespaces")
    monkeypatch.setenv("NBLEDGER_CONFIG", str(home / "nbledger.toml"))
    name = f"nbledger-hostile-{secrets.token_hex(6)}.pth"
    module = f"hostile{secrets.token_hex(4)}"
    wheel = make_wheel(tmp_path / "wheels", module, "2.5")
    with system_service() as (path, health):
        settings = _settings(scene, home, level, health)
        async with worker_process(settings, str(uuid4()), log=tmp_path / "log") as worker:
            execution_id = await scene.request(
                hostile.CELL,
                hostile.WORKS,
                timeout=150.0,
                parameters={
                    "name": name,
                    "environment": [sysconfig.get_path("purelib"), sys.prefix],
                    "checkout": [str(Path(nbledger_workers.__file__).parent)],
                    "home": [str(home / "server.json"), str(home / "nbledger.toml")],
                    "artifacts": str(home / "artifacts"),
                    "run": str(home / "work/nbledger-worker-x/run-x"),
                    "temporary": str(left),
                    "secret": settings.postgres.dsn,
                    "pids": [worker.pid],
                    "namespace": os.readlink("/proc/self/ns/pid"),
                    "postgres": int(settings.postgres.dsn.rpartition(":")[2].partition("/")[0]),
                    "broker": int(settings.kafka.bootstrap_servers.rpartition(":")[2]),
                    "topic": brokers.events_topic(settings.kafka),
                    "health": health,
                    "socket": path,
                    "wheel": {
                        "name": wheel.name,
                        "module": module,
                        "content": base64.b64encode(wheel.read_bytes()).decode(),
                    },
                },
            )
            await scene.command(execution_id)
            execution = await scene.until(execution_id, seconds=160)
    try:
        seen, works = await _printed(scene, execution_id)
    finally:
        assert not _left_behind(name)
    assert execution.termination_code is TerminationCode.SUCCESS
    assert works.pop("user") > 999
    assert works == {
        "pip": "2.5",
        "programs": [True, True],
        "in_folder": [True, True],
        "again": 0,
        "loopback": True,
        "temporary": 1,
        "processes": 2,
    }
    kept = await scene.events(execution_id, Execution.ArtifactStored)
    assert [each.file_name for each in kept if each.kind == "file"] == ["kept.txt"]
    if REWRITE:
        hostile.write(column, seen)
    words = {True: hostile.NOT_STOPPED, False: hostile.STOPPED}
    assert {attempt: words.get(got, got) for attempt, got in seen.items()} == hostile.table()[
        column
    ]
    if level == "namespaces":
        assert not any(seen.values())


def _settings(scene: Stage, home: Path, level: str, health: int) -> Settings:
    worker = msgspec.structs.replace(
        scene.settings.worker, isolation=level, hidden_folders=[str(home)], pool_max=1
    )
    # Nothing answers there for this worker; what does is the test's.
    return msgspec.structs.replace(scene.settings, worker=worker, health=Health(port=health))


def _left_behind(name: str) -> list[Path]:
    """What a notebook has written where it should not: removed, and told."""
    places = [
        Path(sysconfig.get_path("purelib")),
        Path(sys.prefix),
        Path(nbledger_workers.__file__).parent,
        Path("/usr/local/bin"),
        Path("/etc"),
    ]
    found = [place / name for place in places if (place / name).exists()]
    for each in found:
        each.unlink()
    return found


async def _printed(scene: Stage, execution_id: UUID) -> list[Any]:
    """What the cells have printed last, which is JSON."""
    (first, *_) = await scene.history(execution_id)
    scope = Scope(first.tenant_id, first.project_id, first.subject_id)
    artifacts = ArtifactStore(open_store(scene.settings.artifacts.url))
    told = []
    for cell in await scene.events(execution_id, Execution.CellExecuted):
        texts = [
            (await artifacts.get(scope, form.digest)).decode()
            for output in cell.outputs
            for form in output.representations
        ]
        assert cell.error is None, (cell.error, texts)
        told.append(json.loads("".join(texts).strip().splitlines()[-1]))
    return told
