"""Runs that read the files beside their notebook, on a real worker."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from support.executions import AS_TESTER, Stage, make_settings, stage
from support.languages import kernelspec

from nbledger_application import repository
from nbledger_domain.execution import Execution, ExecutionStatus, TerminationCode
from nbledger_domain.input_files import FileLimits
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.settings import RunLimits

FILES = {
    "data/input.csv": b"order,amount\n0017,120\n",
    "data/deep/er/empty": b"",
    "helpers.py": b"def amount(text):\n    return int(text.splitlines()[1].split(',')[1])\n",
}
READ = """
import os, pathlib
import helpers
path = pathlib.Path("data/input.csv")
assert helpers.amount(path.read_text()) == 120
assert pathlib.Path("data/deep/er/empty").read_bytes() == b""
"""
CHANGE = """
path.write_text("changed")
pathlib.Path("data/new.csv").write_text("x")
pathlib.Path("data/deep/er/empty").unlink()
pathlib.Path("data/deep/er").rmdir()
assert not [each for each in os.scandir("outputs")]
"""


@pytest_asyncio.fixture(loop_scope="module")
async def open_scene(
    database_dsn: str, kafka: str, topic_prefix: str, service_dir: Path
) -> AsyncIterator[Stage]:
    """One whose folders other users can pass through."""
    async with stage(make_settings(database_dsn, kafka, topic_prefix, service_dir)) as made:
        yield made


async def ended(scene: Stage, execution_id: UUID) -> Execution:
    await scene.command(execution_id)
    return await scene.until(execution_id, seconds=60)


async def completed(scene: Stage, execution_id: UUID) -> None:
    execution = await ended(scene, execution_id)
    cells = await scene.events(execution_id, Execution.CellExecuted)
    assert [cell.error for cell in cells if cell.error is not None] == []
    assert execution.status is ExecutionStatus.COMPLETED
    assert await scene.events(execution_id, Execution.ArtifactStored) == []
    assert await scene.events(execution_id, Execution.Warned) == []


async def notebook_of(scene: Stage, execution_id: UUID) -> Notebook:
    (requested,) = await scene.events(execution_id, Execution.Requested)
    loaded = await aggregates.load(scene.store, Notebook, requested.notebook_id)
    assert loaded is not None
    return loaded.aggregate


@pytest.mark.guarantee("G18")
async def test_a_run_works_on_copies_of_the_files_of_its_version(scene: Stage) -> None:
    first = await scene.request(READ, CHANGE, files=FILES, binding="")
    notebook = await notebook_of(scene, first)
    newer = await scene.keep(notebook.id, "data/input.csv", b"order,amount\n0018,990\n")
    # Changed after the run was asked for: it is another version, which the run is not of.
    notebook.put_files(
        [newer], replace=True, limits=FileLimits(count=9, total_bytes=1000), at=clock.now()
    )
    notebook.remove_file("helpers.py", at=clock.now())
    stream = scene.stream(notebook.id, notebook)
    await repository.save(scene.store, notebook, stream, AS_TESTER)
    async with scene.worker():
        await completed(scene, first)
        # What the first has changed was its own.
        await completed(scene, await scene.again(first))


async def test_a_program_can_be_run_and_other_files_cannot(scene: Stage) -> None:
    source = """
import os, subprocess
assert subprocess.check_output(["bin/tell"]) == b"told\\n"
assert not os.access("plain", os.X_OK)
"""
    programs = {"bin/tell": b"#!/bin/sh\necho told"}
    run = await scene.request(source, files={"plain": b""}, programs=programs)
    async with scene.worker():
        await completed(scene, run)


async def test_input_files_do_not_count_as_disk_that_a_run_uses(scene: Stage) -> None:
    files = {"large.bin": bytes(3_000_000)}
    reads = "import os; assert os.path.getsize('large.bin') == 3_000_000; open('x', 'wb').write"
    async with scene.worker(limits=RunLimits(disk_mb=2)):
        little = await scene.request(f"{reads}(bytes(1_000_000))", files=files)
        await completed(scene, little)
        (end,) = await scene.events(little, Execution.Completed)
        assert 1_000_000 <= (end.resources.disk_bytes or 0) < 2_000_000
        # In two files: one alone may not grow beyond the limit, which is an error of the cell.
        more = "(bytes(1_500_000)); open('y', 'wb').write(bytes(1_500_000))"
        much = await scene.request(f"{reads}{more}; import time; time.sleep(60)", files=files)
        assert (await ended(scene, much)).termination_code is TerminationCode.DISK_LIMIT


@pytest.mark.guarantee("G18")
async def test_without_an_input_file_nothing_runs(scene: Stage) -> None:
    artifacts = scene.artifacts
    lost = await scene.request("1", files=FILES)
    notebook = await notebook_of(scene, lost)
    await artifacts.delete_all(Scope(scene.tenant_id, scene.project_id, notebook.id))
    spoilt = await scene.request("1", files={"a.csv": b"1"})
    notebook = await notebook_of(scene, spoilt)
    scope = Scope(scene.tenant_id, scene.project_id, notebook.id)
    await artifacts.put(scope, b"2", digest=notebook.files["a.csv"].digest)
    async with scene.worker():
        for execution_id, reason in (
            (lost, "is not kept any more"),
            (spoilt, "the input file 'a.csv' is damaged"),
        ):
            execution = await ended(scene, execution_id)
            assert execution.status is ExecutionStatus.ERROR
            (failed,) = await scene.events(execution_id, Execution.Failed)
            assert reason in failed.detail
            assert "cell-started" not in await scene.types(execution_id)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user")
@pytest.mark.parametrize("isolation", ["process", "auto"])
async def test_the_files_are_the_kernel_users_own(open_scene: Stage, isolation: str) -> None:
    scene = open_scene
    source = f"""
import os
assert os.getuid() == 65534
for place in ("data", "data/deep/er", "data/input.csv", "helpers.py"):
    assert os.stat(place).st_uid == 65534, place
{CHANGE}
"""
    async with scene.worker(isolation=isolation, run_as="65534", pool_min=0, pool_max=0):
        # A kernel that is started for the run, and one that has waited.
        await completed(scene, await scene.request(READ, source, files=FILES))
    async with scene.worker(isolation=isolation, run_as="65534"):
        await completed(scene, await scene.request(READ, source, files=FILES))


async def test_a_notebook_in_r_reads_them_likewise(scene: Stage) -> None:
    kernels = {"r": kernelspec("r")}
    source = """
table <- read.csv("data/input.csv", colClasses = c(order = "character"))
stopifnot(table$order == "0017", table$amount == 120)
writeLines("changed", "data/input.csv")
"""
    async with scene.worker(kernels=kernels):
        await completed(scene, await scene.request(source, files=FILES, kernel_type="r"))
