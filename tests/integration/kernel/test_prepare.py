"""What is put into a kernel's folder before its run may fail, take too long, or be cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.kernels import fork_servers, request

from nbledger_workers.kernel.driving.driver import KernelRun, Prepare, Report
from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.processes.environment import outputs_folder, results_folder
from nbledger_workers.kernel.processes.fork_client import can_fork
from nbledger_workers.kernel.protocol import CellFinished, CellStatus, Outcome, RunFinished


async def run(
    folder: Path, prepare: Prepare, *, timeout: float = 60.0, cancel: asyncio.Event | None = None
) -> tuple[RunFinished, list[CellStatus]]:
    """Run a cell that reads the run file; cancelled when `cancel` is set."""
    statuses: list[CellStatus] = []

    async def take(report: Report) -> None:
        if isinstance(report, CellFinished):
            statuses.append(report.status)

    source = (
        "import json, os\nfile = os.environ['NBLEDGER_RUN_FILE']\n"
        "assert json.load(open(file)) == {'prepared': True}"
    )
    kernel = KernelRun(
        request(folder, source, timeout=timeout),
        on_message=take,
        prepare=prepare,
        fork_servers=fork_servers() if can_fork() else None,
    )

    async def cancelled() -> None:
        if cancel is not None:
            await cancel.wait()
            kernel.cancel("enough")

    cancelling = asyncio.create_task(cancelled())
    try:
        return await kernel.run(), statuses
    finally:
        cancelling.cancel()
        await kernel.close()
        assert family.marked(kernel.token) == []


async def test_the_run_file_is_what_was_prepared(tmp_path: Path) -> None:
    async def prepare(folder: Path) -> bytes:
        assert folder == tmp_path
        return b'{"prepared": true}'

    finished, statuses = await run(tmp_path, prepare)
    assert (finished.outcome, statuses) == (Outcome.COMPLETED, [CellStatus.SUCCESS])
    assert results_folder(tmp_path).is_dir()
    assert outputs_folder(tmp_path).is_dir()


async def test_a_cancel_does_not_wait_for_it(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def prepare(_: Path) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    finished, statuses = await run(tmp_path, prepare, cancel=begun)
    assert finished.outcome is Outcome.CANCELLED
    assert CellStatus.SUCCESS not in statuses


async def test_it_counts_as_time_of_the_run(tmp_path: Path) -> None:
    async def prepare(_: Path) -> bytes:
        await asyncio.Event().wait()
        return b""

    finished, statuses = await run(tmp_path, prepare, timeout=0.5)
    assert (finished.outcome, statuses) == (Outcome.TIMED_OUT, [CellStatus.SKIPPED])


async def test_its_error_ends_the_run_and_reaches_the_caller(tmp_path: Path) -> None:
    async def prepare(_: Path) -> bytes:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await run(tmp_path, prepare)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(28, "No space left on device"), "No space left"), (TimeoutError(), "too long")],
)
async def test_that_it_cannot_be_put_into_place_is_no_fault_of_the_kernel(
    tmp_path: Path, error: OSError, reason: str
) -> None:
    async def prepare(_: Path) -> bytes:
        raise error

    finished, statuses = await run(tmp_path, prepare)
    assert (finished.outcome, statuses) == (Outcome.FAILED_TO_START, [CellStatus.SKIPPED])
    assert reason in finished.detail
    assert "kernel" not in finished.detail
