"""Runs of notebooks that ask for packages, on a real worker, from wheels that are made here."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest
from support.executions import Stage, eventually
from support.wheels import make_wheel, only_from

from nbledger_domain.execution import Execution, ExecutionStatus, Phase, TerminationCode
from nbledger_domain.notebook import Environment
from nbledger_infrastructure.settings import Environments
from nbledger_workers.kernel.standalone.isolation import Isolation
from nbledger_workers.kernel.standalone.isolation_probe import available

NAMESPACES = available(Isolation(level="namespaces")) is None


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    only_from(folder, monkeypatch)
    return folder


@pytest.fixture
def provided(tmp_path: Path) -> Environments:
    return Environments(folder=str(tmp_path / "cache"), library_folder=str(tmp_path / "libraries"))


async def test_packages_are_provided_before_the_first_cell(
    scene: Stage, wheels: Path, provided: Environments, tmp_path: Path
) -> None:
    make_wheel(wheels, "tinyone", "1.5")
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "ml_models.py").write_text("DEPTH = 3\n")
    asked = Environment(
        packages=["TinyOne>=1", "pandas", "mindzie-sdk"],
        custom_libraries=["ml_models", "process_mining_utils", "customer_analytics"],
    )
    cells = (
        """
import tinyone, ml_models, pandas, mindzie_sdk, pathlib, subprocess
assert (tinyone.VERSION, ml_models.DEPTH) == ('1.5', 3)
ran = subprocess.run(['python', '-c', 'import tinyone'], capture_output=True, text=True)
assert ran.returncode == 0, (ran.stderr, __import__('os').environ.get('PATH'))
""",
        # Other runs use it too: whatever a cell does to it must not reach them.
        """
try:
    pathlib.Path(tinyone.__file__).write_text('SPOILT = True')
except OSError as error:
    assert 'Read-only' in str(error)
""",
    )
    first = await scene.request(*cells, environment=asked)
    second = await scene.request(*cells, environment=asked)
    async with scene.worker(environments=provided):
        await scene.command(first, second)
        executions = [await scene.until(each, seconds=60) for each in (first, second)]
    errors = [event.error for event in await scene.events(first, Execution.CellExecuted)]
    assert [each.status for each in executions] == [ExecutionStatus.COMPLETED] * 2, errors
    stages = []
    for execution_id in (first, second):
        progress = await scene.events(execution_id, Execution.EnvironmentProgressed)
        stages += [each.stage for each in progress]
        assert progress[-1].stage == "ready"
        assert progress[-1].packages == ["tinyone==1.5", "ml_models"]
        assert await scene.warnings(execution_id) == [
            "customLibraries: no library 'customer_analytics' is known here"
        ]
        (started,) = await scene.events(execution_id, Execution.Started)
        assert started.language_version == ".".join(map(str, sys.version_info[:3]))
    assert stages.count("building") == 1
    (source,) = (tmp_path / "cache" / "environments").rglob("tinyone/__init__.py")
    assert not NAMESPACES or "SPOILT" not in source.read_text()


@pytest.mark.skipif(not NAMESPACES, reason="this machine offers no namespaces")
async def test_a_kernel_sees_no_environment_but_its_own(
    scene: Stage, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not below /tmp, which is each kernel's own anyway.
    place = Path(mkdtemp(prefix="nbe-test-", dir=os.environ.get("XDG_RUNTIME_DIR", "/run")))
    # Of what uv keeps, files of environments are links.
    monkeypatch.setenv("UV_CACHE_DIR", str(place / "uv"))
    provided = Environments(folder=str(place / "cache"))
    make_wheel(wheels, "tinyone")
    make_wheel(wheels, "tinytwo")
    spoil = f"""
import pathlib
place = pathlib.Path({str(place)!r})
seen = [path for path in place.rglob('*') if path.is_file() and not path.is_symlink()]
for path in seen:
    try:
        path.write_text('SPOILT = True')
    except OSError as error:
        assert 'Read-only' in str(error)
own = pathlib.Path(__import__('sys').prefix)
strange = [path for path in seen if not path.is_relative_to(own)]
assert not strange, strange[:3]
for folder in (place / 'cache', place / 'cache' / 'locks', place / 'uv'):
    try:
        (folder / 'new').write_text('')
    except OSError:
        continue
    assert False, folder
"""
    try:
        async with scene.worker(environments=provided):
            for packages, source in (
                # A kernel that has waited since there was no environment yet.
                ([], spoil),
                (["tinyone"], "import tinyone"),
                (["tinytwo"], f"import tinytwo\n{spoil}"),
                ([], spoil),
            ):
                execution_id = await scene.request(
                    source, environment=Environment(packages=packages)
                )
                await scene.command(execution_id)
                execution = await scene.until(execution_id, seconds=60)
                cells = await scene.events(execution_id, Execution.CellExecuted)
                errors = [event.error for event in cells]
                assert execution.status is ExecutionStatus.COMPLETED, errors
        sources = await asyncio.to_thread(lambda: list(place.rglob("tiny*/__init__.py")))
        assert len(sources) > 2
        assert not any("SPOILT" in source.read_text() for source in sources)
    finally:
        shutil.rmtree(place)


async def test_a_package_that_cannot_be_had_fails_the_run_before_its_first_cell(
    scene: Stage, wheels: Path, provided: Environments
) -> None:
    make_wheel(wheels, "tinyone")
    missing = await scene.request("1", environment=Environment(packages=["tinynone"]))
    own = await scene.request("1", environment=Environment(packages=["mindzie-sdk>=77"]))
    plain = await scene.request("1", environment=Environment(packages=["numpy", "Pandas"]))
    async with scene.worker(environments=provided):
        await scene.command(missing, own, plain)
        for execution_id, reason in ((missing, "tinynone was not found"), (own, "comes with")):
            execution = await scene.until(execution_id)
            assert execution.termination_code is TerminationCode.ENVIRONMENT_FAILED
            (failed,) = await scene.events(execution_id, Execution.Failed)
            assert reason in failed.detail
            assert "cell-started" not in await scene.types(execution_id)
        assert (await scene.until(plain)).status is ExecutionStatus.COMPLETED
    # What is there already costs nothing, and is not spoken of.
    assert "environment-progressed" not in await scene.types(plain)


async def test_where_nothing_is_provided_there_are_warnings(
    scene: Stage, wheels: Path, provided: Environments, tmp_path: Path
) -> None:
    execution_id = await scene.request(
        "1",
        environment=Environment(
            packages=["tinyone", "pandas"], custom_libraries=["ml_models", "Our-Rules"]
        ),
    )
    folder = tmp_path / "operators"
    folder.mkdir()
    (folder / "our_rules.py").write_text("")
    off = Environments(provisioning=False, folder=provided.folder, library_folder=str(folder))
    async with scene.worker(environments=off):
        await scene.command(execution_id)
        assert (await scene.until(execution_id)).status is ExecutionStatus.COMPLETED
    assert await scene.warnings(execution_id) == [
        "customLibraries: no library 'ml_models' is known here",
        "packages: the kernel does not have 'tinyone', and nothing is provided here",
        "customLibraries: 'Our-Rules' is not installed, and nothing is provided here",
    ]
    assert not (tmp_path / "cache").exists()


async def test_a_run_is_cancelled_and_runs_out_of_time_while_packages_are_provided(
    scene: Stage,
    wheels: Path,
    provided: Environments,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_wheel(wheels, "tinyone")
    # A uv that never ends, as one that waits for an index that does not answer.
    program = tmp_path / "slow-uv"
    program.write_text(f"#!/bin/sh\necho $$ >> {tmp_path / 'pids'}\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr("uv.find_uv_bin", lambda: str(program))
    asked = Environment(packages=["tinyone"])
    slow = await scene.request("1", environment=asked, timeout=2)
    cancelled = await scene.request("1", environment=asked)
    async with scene.worker(environments=provided):
        await scene.command(cancelled, slow)
        running = await scene.until(
            cancelled, lambda execution: execution.phase is Phase.PROVISIONING
        )
        assert running.running_cell is None
        await eventually((tmp_path / "pids").exists)
        await scene.cancel(cancelled)
        assert (await scene.until(cancelled)).status is ExecutionStatus.CANCELLED
        over = await scene.until(slow)
        assert over.termination_code is TerminationCode.RUN_TIMEOUT
    pids = [int(each) for each in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    await eventually(lambda: not any(map(psutil.pid_exists, pids)))
