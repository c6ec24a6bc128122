"""Kernels that wait: each is used once, and there are as many as the load asks for."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.kernels import code, fork_servers, request

from nbledger_workers.confinement.run_users import NoUserLeftError
from nbledger_workers.kernel.driving.driver import KernelRun, Report
from nbledger_workers.kernel.driving.pool import IDLE_SECONDS, KernelPool, Sizing
from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.processes.fork_client import can_fork
from nbledger_workers.kernel.protocol import CellFinished, CellStatus, Outcome, RunFinished
from nbledger_workers.kernel.standalone.isolation import Isolation


@asynccontextmanager
async def pool_of(
    folder: Path, name: str = "python3", *, minimum: int, maximum: int
) -> AsyncIterator[KernelPool]:
    pool = KernelPool(
        folder,
        {name: True},
        fork_servers=fork_servers() if can_fork() else None,
        minimum=minimum,
        maximum=maximum,
    )
    pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)


def folders(of: Path) -> list[Path]:
    return list(of.iterdir())


async def run(pool: KernelPool, *cells: str, name: str = "python3") -> tuple[RunFinished, str]:
    texts: list[str] = []

    async def take(report: Report) -> None:
        if isinstance(report, CellFinished):
            assert report.status is not CellStatus.SKIPPED or report.outputs == []
            texts.extend(output.decode() for output in report.outputs)

    full = request(Path(), *(code(cell) for cell in cells), kernel_name=name)
    current = KernelRun(full, on_message=take, pool=pool)
    try:
        return await current.run(), "".join(texts)
    finally:
        await current.close()
        assert family.marked(current.token) == []


async def test_each_kernel_runs_once_and_another_takes_its_place(tmp_path: Path) -> None:
    async with pool_of(tmp_path, minimum=1, maximum=2) as pool:
        await until(lambda: pool.waiting("python3").count == 1)
        (folder,) = folders(tmp_path)
        first, pids = await run(pool, "x = 1", "import os; print('pid', os.getpid())")
        assert first.outcome is Outcome.COMPLETED
        assert folder not in folders(tmp_path)
        # The one that waited was the last: from now on two wait.
        await until(lambda: pool.waiting("python3").count == 2)
        memory = pool.waiting("python3").memory_bytes
        if can_fork():
            assert memory is not None
            assert 1_000_000 < memory < 200_000_000
        second, text = await run(pool, "import os; print('pid', os.getpid())", "x")
        assert second.outcome is Outcome.CELL_ERROR
        assert "NameError" in text
        assert pids not in text
    assert folders(tmp_path) == []


async def test_a_kernel_that_died_waiting_is_replaced(tmp_path: Path) -> None:
    async with pool_of(tmp_path, minimum=1, maximum=1) as pool:
        await until(lambda: pool.waiting("python3").count == 1)
        (folder,) = folders(tmp_path)
        pair = await pool.take("python3")
        assert pair.started is not None
        os.kill(pair.started.pid, signal.SIGKILL)
        message = await pair.receive()
        assert isinstance(message, RunFinished)
        assert message.outcome is Outcome.KERNEL_DIED
        await pair.close(clean=False)

        await until(lambda: pool.waiting("python3").count == 1)
        before = set(folders(tmp_path)) - {folder}
        waiting = pool._shelves["python3"].ready[0]
        assert waiting.started is not None
        os.kill(waiting.started.pid, signal.SIGKILL)
        await until(
            lambda: (
                pool.waiting("python3").count == 1
                and pool._shelves["python3"].ready[0] is not waiting
            )
        )
        # Its own goes beside that.
        await until(lambda: not (set(folders(tmp_path)) & before))


async def test_a_run_that_meets_a_dead_kernel_takes_another(tmp_path: Path) -> None:
    async with pool_of(tmp_path, minimum=1, maximum=1) as pool:
        await until(lambda: pool.waiting("python3").count == 1)
        pair = await pool.take("python3")
        assert pair.started is not None
        os.kill(pair.started.pid, signal.SIGKILL)
        await pair.spoke()
        # As if the pool had not noticed yet.
        pool._shelves["python3"].ready.appendleft(pair)
        finished, text = await run(pool, "print('ran')")
        assert finished.outcome is Outcome.COMPLETED
        assert "ran" in text


async def test_a_kernel_that_does_not_start_says_why(tmp_path: Path) -> None:
    async with pool_of(tmp_path, "no-such-kernel", minimum=1, maximum=1) as pool:
        await until(lambda: pool._shelves["no-such-kernel"].backoff.failures >= 1)
        finished, text = await run(pool, "1", name="no-such-kernel")
        assert finished.outcome is Outcome.FAILED_TO_START
        assert "no-such-kernel" in finished.detail
        assert text == ""


async def test_a_kernel_that_cannot_be_isolated_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime := tmp_path / "runtime").mkdir()
    (work := tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))

    def confine(folder: Path, runtime_dir: Path) -> Isolation:
        assert folder.exists()
        assert runtime_dir.exists()
        raise NoUserLeftError("every user id is in use")

    pool = KernelPool(work, {"python3": True}, minimum=1, confine=confine)
    current = KernelRun(request(Path(), code("1")), on_message=_nobody, pool=pool)
    finished = await current.run()
    await current.close()
    assert finished.outcome is Outcome.FAILED_TO_START
    assert finished.detail == "no kernel can be started: every user id is in use"
    assert folders(work) == folders(runtime) == []


async def _nobody(report: Report) -> None:
    assert isinstance(report, CellFinished)


def test_the_size_follows_the_load_within_its_bounds() -> None:
    sizing = Sizing(1, 3, now=0.0)
    for now, wanted in ((1.0, 2), (2.0, 3), (3.0, 3)):
        sizing.took(0, now)
        assert sizing.wanted == wanted
    # Quiet times let it shrink, one at a time; work in which none is left does not.
    now = 3.0 + IDLE_SECONDS
    assert sizing.look(3, now) == 0
    now += IDLE_SECONDS
    assert sizing.look(3, now) == 1
    assert sizing.wanted == 2
    sizing.took(0, now + 1)
    assert sizing.look(1, now + IDLE_SECONDS) == 0
    assert sizing.wanted == 3
    for _ in range(9):
        now += 2 * IDLE_SECONDS
        sizing.look(3, now)
    assert sizing.wanted == 1


def test_a_kernel_type_that_nobody_uses_has_none_waiting() -> None:
    sizing = Sizing(2, 4, now=0.0, eager=False)
    assert sizing.wanted == 0
    assert sizing.look(0, 10 * IDLE_SECONDS) == 0
    assert sizing.wanted == 0
    sizing.took(0, 11 * IDLE_SECONDS)
    assert sizing.wanted == 3
