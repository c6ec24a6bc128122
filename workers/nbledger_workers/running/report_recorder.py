"""Recording what a kernel reports: many reports in one append, the first cell confirmed."""

from typing import Final

from nbledger_workers.kernel.driving.driver import KernelRun, Report
from nbledger_workers.kernel.protocol import CellFinished, CellStarted, KernelStarted
from nbledger_workers.running.leavings import SOON_SECONDS, Leavings
from nbledger_workers.running.pending import PendingSteps
from nbledger_workers.running.report_queue import ReportQueue
from nbledger_workers.translation.planning import RunPlan
from nbledger_workers.translation.steps import Step, Translator

_GATHER_SECONDS: Final = 0.05
"""For how long the reports of many short cells gather before they are recorded."""


class ReportRecorder:
    """Turns the reports of one run into steps, and has them recorded."""

    def __init__(
        self,
        reports: ReportQueue,
        translator: Translator,
        planned: RunPlan,
        *,
        kernel: KernelRun,
        leavings: Leavings,
        pending: PendingSteps,
    ) -> None:
        self._reports = reports
        self._translator = translator
        self._planned = planned
        self._kernel = kernel
        self._leavings = leavings
        self._pending = pending
        self._confirmed = False

    async def run(self) -> list[Step]:
        """Record reports as they come: all that have gathered meanwhile in one append.

        Returns what may be recorded together with the end of the run.
        """
        while batch := await self._reports.take():
            batch += await self._more(batch[-1])
            steps: list[Step] = []
            for message in batch:
                steps += await self._translator.steps(message)
                if isinstance(message, CellFinished):
                    steps += await self._leavings.of_cell(message, self._planned)
            last = self._confirmed and self._is_last(batch[-1])
            # The end follows at once: likewise.
            if last and await self._reports.ends(within=SOON_SECONDS):
                return steps
            begins = not self._confirmed and any(map(self._begins, batch))
            if steps:
                # Only once it is recorded that cells run may one act on the world: from there on
                # the run is not begun again.
                then = self._kernel.confirm if begins else None
                await self._pending.put(steps, weight=self._translator.take_weight(), then=then)
            self._confirmed = self._confirmed or begins
            if self._translator.parameters_failed is not None:
                # Whatever follows would run with other values than were asked for.
                self._kernel.cancel("The parameters failed.")
        return []

    async def _more(self, last: Report) -> list[Report]:
        """What comes soon after the ``last`` report, to be recorded with it."""
        if isinstance(last, KernelStarted):
            # The first cell follows at once: one append for both.
            return await self._reports.take(within=SOON_SECONDS)
        if self._confirmed and not self._is_last(last):
            # Of many short cells several go into one append.
            return await self._reports.gather(within=_GATHER_SECONDS)
        return []

    def _is_last(self, message: Report) -> bool:
        return isinstance(message, CellFinished) and message.index == self._planned.last

    def _begins(self, message: Report) -> bool:
        return isinstance(message, CellStarted) and message.index in self._planned.cells
