"""What a supervising child holds of a flood is bounded: the rest is the kernel's own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest
from support.kernels import fork_servers, request

from nbledger_workers.kernel.driving.driver import KernelRun, Report
from nbledger_workers.kernel.protocol import CellFinished, Outcome, OutputPart

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="sees memory as Linux tells it"),
]

MB = 1_000_000
_FLOOD = """
for _ in range(50): print('x' * 3_999_999, flush=True)
open('done', 'w').close()
"""


class Slow:
    """Takes no report after the first part of an output until the kernel has published all."""

    def __init__(self, folder: Path) -> None:
        self.most = self.before = 0
        self.cells: list[CellFinished] = []
        self._done = folder / "done"
        self.run = KernelRun(
            request(folder, _FLOOD, max_output_bytes=3 * MB, timeout=200.0),
            on_message=self._take,
            fork_servers=fork_servers(),
        )

    def _memory(self) -> int:
        assert self.run.child_pid is not None
        return psutil.Process(self.run.child_pid).memory_info().rss

    async def _take(self, report: Report) -> None:
        if isinstance(report, CellFinished):
            self.cells.append(report)
        if not isinstance(report, OutputPart) or self.most:
            return
        self.before = self._memory()
        while not await asyncio.to_thread(self._done.exists):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        # Until no more comes.
        last, same = 0, 0
        while same < 10:
            await asyncio.sleep(0.05)
            now = self._memory()
            same = same + 1 if abs(now - last) < MB else 0
            last, self.most = now, max(self.most, now)


@pytest.mark.guarantee("G12")
async def test_a_flood_fills_the_kernels_memory_and_not_the_childs(tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    try:
        finished = await slow.run.run()
    finally:
        await slow.run.close()
    assert finished.outcome is Outcome.COMPLETED
    (cell,) = slow.cells
    # All of it came in the end, and is counted.
    assert (cell.output_bytes, cell.warnings) == (200 * MB, [])
    assert finished.peak_memory_bytes > 200 * MB
    # What may wait, and a few copies of the message at hand.
    assert slow.most - slow.before < 100 * MB
