"""Runs whose supervising process is held while cells put out."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from support.kernels import Recorded, request

from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.protocol import CellStarted


async def _taken(path: Path) -> None:
    """Wait for a file and take it away."""
    while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110 - a cell has no other way
        await asyncio.sleep(0.02)
    await asyncio.to_thread(path.unlink)


async def stalled(
    folder: Path,
    *cells: str,
    held: tuple[int, ...] | None = None,
    seconds: float | None = None,
    **options: Any,
) -> Recorded:
    """Run cells to the end, with the supervising process held in each of those in `held` (all).

    Such a cell makes the file `ready` and waits for the file `held`. The process goes on after so
    many seconds, or when the file `done` is there.
    """
    holding: list[asyncio.Task[None]] = []

    async def hold(pid: int) -> None:
        await _taken(folder / "ready")
        os.kill(pid, signal.SIGSTOP)
        try:
            (folder / "held").touch()
            if seconds is not None:
                await asyncio.sleep(seconds)
            else:
                await _taken(folder / "done")
        finally:
            os.kill(pid, signal.SIGCONT)

    def take(report: Report, run: Recorded) -> None:
        pid = run.run.child_pid
        if isinstance(report, CellStarted) and (held is None or report.index in held):
            assert pid is not None
            holding.append(asyncio.create_task(hold(pid)))

    run = Recorded(request(folder, *cells, **options), take)
    try:
        await run.result()
    finally:
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
    return run
