"""What a notebook leaves, collected within the time of its run."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final

from nbledger_workers.kernel.driving.driver import KernelRun
from nbledger_workers.kernel.protocol import CellFinished, Outcome, RunFinished
from nbledger_workers.results.collector import Collector
from nbledger_workers.running.pending import PendingSteps
from nbledger_workers.storing.patience import Patience
from nbledger_workers.translation.planning import RunPlan
from nbledger_workers.translation.steps import Step

COLLECT_SECONDS: Final = 60.0
"""Seconds beyond the run's own time, or a cancel, for collecting what a notebook leaves."""

SOON_SECONDS: Final = 0.02
"""What comes so soon after something is recorded together with it."""

_NOT_ALL_KEPT: Final = "Some results of the notebook were not saved: {why} while collecting them."


class Leavings:
    """Collects results of cells and files, until time is up or the run is cancelled.

    ``time_is_up`` is when the run's own time ends, by the loop's clock. With ``intermediate``
    results are taken cell by cell.
    """

    def __init__(
        self,
        collector: Collector,
        kernel: KernelRun,
        patience: Patience,
        *,
        time_is_up: float,
        intermediate: bool,
    ) -> None:
        self._collector = collector
        self._kernel = kernel
        self._patience = patience
        self._time_is_up = time_is_up
        self._intermediate = intermediate
        self._limit: asyncio.Timeout | None = None
        self._ended = False
        self._cancelled = False
        self.cells_over = False
        """Whether nothing else of the run goes on."""

    def cancel(self) -> None:
        """Stop at once where nothing else goes on; soon where cells may still run."""
        if self._cancelled:
            return
        self._cancelled = True
        limit = self._limit
        if limit is None or limit.expired():
            return
        now = asyncio.get_running_loop().time()
        until = now if self.cells_over else now + COLLECT_SECONDS
        limit.reschedule(min(limit.when() or until, until))

    async def of_cell(self, message: CellFinished, planned: RunPlan) -> list[Step]:
        """Note that a cell is over; what it has handed back, where that is to be seen at once."""
        cell = planned.cells.get(message.index)
        self._collector.cell_ended(
            None if cell is None else cell.cell_id, message.handed_back, message.looked_ns
        )
        folder = self._kernel.folder
        if not self._intermediate or folder is None:
            return []

        async def collect(steps: list[Step]) -> None:
            await self._collector.handed_back(folder, steps, all_over=False)

        return await self.in_time(collect, _NOT_ALL_KEPT)

    async def of_run(self, finished: RunFinished, warnings: Sequence[str]) -> list[Step]:
        """All that is left once the cells are over, ``warnings`` among it."""
        folder, collector = self._kernel.folder, self._collector
        if folder is None or finished.outcome is Outcome.FAILED_TO_START:
            return []
        steps: list[Step] = []
        for warning in (*warnings, *finished.warnings):
            steps += collector.warning(warning)

        async def collect(steps: list[Step]) -> None:
            await collector.handed_back(folder, steps, all_over=True)
            await collector.left_behind(folder, steps)

        return steps + await self.in_time(collect, _NOT_ALL_KEPT)

    async def in_time(
        self, collect: Callable[[list[Step]], Awaitable[None]], warning: str
    ) -> list[Step]:
        """What is collected before time is up or the run is cancelled; then no more ever.

        Where something is missing therefore, the run warns of it.
        """
        steps: list[Step] = []
        if self._ended:
            return steps
        now = asyncio.get_running_loop().time()
        begin = now if self._cancelled else max(now, self._time_is_up)
        try:
            async with asyncio.timeout_at(begin + COLLECT_SECONDS) as limit:
                self._limit = limit
                with self._patience.within(limit):
                    await collect(steps)
        except TimeoutError:
            self._ended = True
            why = "the run was cancelled" if self._cancelled else "it took too long"
            steps += self._collector.warning(warning.format(why=why))
        finally:
            self._limit = None
        return steps


async def with_more(
    steps: list[Step], more: Coroutine[None, None, list[Step]], pending: PendingSteps
) -> list[Step]:
    """These steps and more of them, which may be recorded together with the end of the run.

    Where it takes its time to come by them, these are recorded before.
    """
    coming = asyncio.create_task(more)
    try:
        await asyncio.wait({coming}, timeout=SOON_SECONDS)
        if steps and not coming.done():
            await pending.put(steps)
            steps = []
        return steps + await coming
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
