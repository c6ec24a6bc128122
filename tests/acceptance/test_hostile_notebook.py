"""A notebook that means harm, at each level of isolation: what the documentation says is true.

`make isolation-table` writes into the documentation what is seen.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support import hostile, ordinary
from support.executions import Stage, make_settings, stage
from support.hostile_grounds import Grounds, grounds, printed
from support.wheels import make_wheel
from support.workers import worker_process

from nbledger_domain.execution import Execution, TerminationCode
from nbledger_workers.kernel.standalone.isolation import Isolation, can_close_ports, keeps_signals
from nbledger_workers.kernel.standalone.isolation_probe import available

pytestmark = pytest.mark.timeout(240)

_REWRITE = bool(os.environ.get("NBLEDGER_REWRITE_ISOLATION_TABLE"))


@pytest.fixture(name="around")
def grounds_of_the_test() -> Iterator[Grounds]:
    with grounds() as made:
        yield made


@pytest.fixture
async def scene(
    database_dsn: str, kafka: str, topic_prefix: str, around: Grounds
) -> AsyncIterator[Stage]:
    async with stage(make_settings(database_dsn, kafka, topic_prefix, around.home)) as made:
        yield made


def _skip_unless_offered(level: str, who: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can take another user")
    if who != "root" and ordinary.why_not():
        pytest.skip(ordinary.why_not())
    if (missing := available(Isolation(level=level))) is not None:
        pytest.skip(missing)
    if not can_close_ports() or not keeps_signals():
        pytest.skip("this system's Landlock is older than what the table tells of")


def _wheel(folder: Path) -> dict[str, Any]:
    module = f"hostile{secrets.token_hex(4)}"
    path = make_wheel(folder, module, "2.5")
    content = base64.b64encode(path.read_bytes()).decode()
    return {"name": path.name, "module": module, "content": content}


# The others take a minute more, and come with the campaigns.
@pytest.mark.guarantee("G26")
@pytest.mark.parametrize(
    "column",
    [
        column
        if column in {"namespaces-root", "landlock-user"}
        else pytest.param(column, marks=pytest.mark.campaign)
        for column in hostile.COLUMNS
    ],
)
async def test_what_a_hostile_notebook_gets_is_what_the_documentation_says(
    scene: Stage,
    around: Grounds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    column: str,
) -> None:
    level, who = hostile.COLUMNS[column]
    _skip_unless_offered(level, who)
    if who != "root":
        ordinary.become(tmp_path, monkeypatch, namespaces=level == "namespaces")
    monkeypatch.setenv("NBLEDGER_CONFIG", str(around.home / "nbledger.toml"))
    settings = around.settings(scene.settings, isolation=level, pool_max=1)
    async with worker_process(settings, str(uuid4()), log=tmp_path / "log") as worker:
        execution_id = await scene.request(
            hostile.CELL,
            hostile.WORKS,
            timeout=150.0,
            parameters={
                **around.parameters(settings, worker.pid),
                "wheel": _wheel(tmp_path / "wheels"),
            },
        )
        await scene.command(execution_id)
        execution = await scene.until(execution_id, seconds=160)
    assert not around.tidied()
    assert execution.termination_code is TerminationCode.SUCCESS
    seen, works = await printed(scene, execution_id)
    # Whatever is kept from it, it is a kernel still.
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
    if _REWRITE:
        hostile.write(column, seen)
    words = {True: hostile.NOT_STOPPED, False: hostile.STOPPED}
    told = {attempt: words.get(got, got) for attempt, got in seen.items()}
    assert told == hostile.table()[column]
    if level == "namespaces":
        assert not any(seen.values())
