"""Kernels of a worker: kept apart, held to their limits, and told of while they run."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from support.executions import Stage

from nbledger_domain.execution import CellStatus, Execution, TerminationCode
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.settings import RunLimits
from nbledger_workers.confinement.levels import IsolationMissingError
from nbledger_workers.kernel.standalone.isolation import Isolation
from nbledger_workers.kernel.standalone.isolation_probe import available

needs_namespaces = pytest.mark.skipif(
    available(Isolation(level="namespaces", network="none", read_only=True)) is not None,
    reason="this machine offers no namespaces",
)


async def _printed(scene: Stage, execution_id: UUID) -> Any:
    """What the first cell has printed, which is JSON."""
    (cell, *_) = await scene.events(execution_id, Execution.CellExecuted)
    assert cell.error is None, cell.error
    (form,) = cell.outputs[0].representations
    return json.loads(await scene.content(execution_id, form))


_SPY = """
import glob, json, os, socket
def reads(path):
    try:
        return len(open(path, 'rb').read()) > 0
    except OSError:
        return False
others = [p for p in glob.glob('/proc/[0-9]*/environ') if p.split('/')[2] != str(os.getpid())]
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
here = os.getcwd()
open('made.txt', 'w').write('here')
print(json.dumps({
    'pids': sorted(int(name) for name in os.listdir('/proc') if name.isdigit()),
    'read': [path for path in others if reads(path)],
    'secret': [path for path in glob.glob('/proc/[0-9]*/environ')
               if reads(path) and b'open sesame' in open(path, 'rb').read()],
    'rights': status['CapEff'].strip(),
    'beside': os.listdir(os.path.dirname(here)),
    'own': os.path.basename(here),
    'temporary': os.path.exists('%s'),
    'interfaces': [name for _, name in socket.if_nameindex()],
    'files': __import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)[0],
}))
"""


@pytest.mark.guarantee("G26")
@needs_namespaces
async def test_a_notebook_sees_nothing_but_its_run(
    scene: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a worker's secrets are: in the environment of a process of the same user.
    monkeypatch.setenv("NBLEDGER_TEST_SECRET", "open sesame")
    holder = await asyncio.create_subprocess_exec("sleep", "60")
    scene_file = tmp_path / "of somebody else"
    scene_file.touch()
    execution_id = await scene.request(_SPY % scene_file)
    try:
        async with scene.worker(
            isolation="namespaces", network="none", limits=RunLimits(open_files=300)
        ):
            await scene.command(execution_id)
            execution = await scene.until(execution_id)
    finally:
        holder.kill()
        await holder.wait()
    assert execution.termination_code is TerminationCode.SUCCESS
    seen = await _printed(scene, execution_id)
    assert 1 in seen["pids"]
    assert len(seen["pids"]) == 2
    assert max(seen["pids"]) < 10
    assert seen["read"] == []
    assert seen["secret"] == []
    assert seen["rights"] == "0" * 16
    assert seen["beside"] == [seen["own"]]
    assert seen["temporary"] is False
    assert "eth0" not in seen["interfaces"]
    assert seen["files"] == 300


@pytest.mark.skipif(os.geteuid() != 0, reason="without root a process may read its user's others")
async def test_as_a_process_a_notebook_cannot_read_secrets_of_root_either(
    scene: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBLEDGER_TEST_SECRET", "open sesame")
    holder = await asyncio.create_subprocess_exec("sleep", "60")
    execution_id = await scene.request(_SPY % "/nowhere")
    try:
        async with scene.worker(isolation="process"):
            await scene.command(execution_id)
            await scene.until(execution_id)
    finally:
        holder.kill()
        await holder.wait()
    seen = await _printed(scene, execution_id)
    assert holder.pid in seen["pids"]
    assert seen["secret"] == []


async def test_a_worker_does_not_start_without_the_isolation_it_must_have(scene: Stage) -> None:
    with pytest.raises(IsolationMissingError, match=r"worker\.network need"):
        async with scene.worker(isolation="process", network="none"):
            pass


_HOG = """
import time
held = []
while True: held.append(bytearray(9_000_000)); time.sleep(0.01)
"""
_BOMB = """
import os, time
for _ in range(100):
    if os.fork() == 0: time.sleep(20); os._exit(0)
    time.sleep(0.01)
time.sleep(20)
"""
_FILL = """
import time
for number in range(200):
    open(f"/tmp/{number}", "wb").write(bytes(1_000_000)); time.sleep(0.02)
time.sleep(20)
"""


@pytest.mark.guarantee("G12")
@pytest.mark.parametrize(
    ("limits", "source", "code"),
    [
        (
            RunLimits(memory_mb=400),
            _HOG,
            TerminationCode.MEMORY_LIMIT,
        ),
        (RunLimits(cpu_seconds=2), "while True: pass", TerminationCode.CPU_LIMIT),
        (
            RunLimits(processes=15),
            _BOMB,
            TerminationCode.PROCESS_LIMIT,
        ),
        (
            RunLimits(disk_mb=30),
            _FILL,
            TerminationCode.DISK_LIMIT,
        ),
    ],
    ids=["memory", "cpu", "processes", "disk"],
)
@needs_namespaces
async def test_a_limit_ends_the_run_and_says_which(
    scene: Stage, limits: RunLimits, source: str, code: TerminationCode
) -> None:
    async with scene.worker(limits=limits):
        execution = await scene.run("print('kept')", source, "1")
    assert execution.termination_code is code
    first, second = await scene.events(execution.id, Execution.CellExecuted)
    assert first.output_count == 1
    assert second.status is CellStatus.ERROR
    assert second.error is not None
    assert second.error.error_type.endswith("LimitExceeded")
    assert "the limit is" in second.error.error_message
    assert second.resources is not None


async def test_each_process_is_bounded_in_open_files_and_in_the_size_of_a_file(
    scene: Stage,
) -> None:
    bounds = """
import json, resource
names = ("NOFILE", "FSIZE", "CORE")
print(json.dumps([resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names]))
"""
    async with scene.worker(limits=RunLimits(open_files=300, disk_mb=20)):
        execution = await scene.run(bounds, "files = [open('/dev/null') for _ in range(500)]")
    assert await _printed(scene, execution.id) == [[300, 300], [20_000_000, 20_000_000], [0, 0]]
    error = (await scene.events(execution.id, Execution.CellExecuted))[1].error
    assert error is not None
    assert "Too many open files" in error.error_message


async def test_what_a_run_uses_comes_with_its_lease(scene: Stage) -> None:
    execution_id = await scene.request("held = bytearray(150_000_000)\nimport time; time.sleep(30)")
    async with scene.worker(renew_seconds=0.3):
        await scene.command(execution_id)
        async with asyncio.timeout(30):
            used: dict[str, Any] = {}
            while used.get("peakMemoryBytes", 0) < 150_000_000:
                await asyncio.sleep(0.1)
                async with acquire(scene.pool) as connection:
                    told = await connection.fetchval("SELECT usage FROM execution_lease")
                used = msgspec.json.decode(told) if told else {}
        assert used["cpuSeconds"] < 5
        assert used["diskBytes"] < 10_000_000
        await scene.cancel(execution_id)
        execution = await scene.until(execution_id)
    assert execution.termination_code is TerminationCode.CANCELLED
