"""From what a kernel reports to steps of the execution."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog

from nbledger_domain.execution import (
    CellError,
    CellStatus,
    Execution,
    KernelFacts,
    Output,
    Representation,
    Resources,
    TerminationCode,
)
from nbledger_domain.not_kept import NotKept, in_words
from nbledger_domain.vocabulary.media_types import WIDGET_STATE
from nbledger_infrastructure import clock
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.outputs.forms import plain
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellResources,
    CellStarted,
    KernelStarted,
    Outcome,
    OutputPart,
    OutputsSoFar,
    OutputsUpdated,
    RunFinished,
    WidgetsLeft,
)
from nbledger_workers.kernel.protocol import CellStatus as Reported
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation.outputs import OutputKeeper
from nbledger_workers.translation.planning import RunPlan

log = structlog.get_logger(__name__)

Step = Callable[[Execution], None]

_DETAIL_CHARACTERS: Final = 4000


class Translator:
    """Turns the reports of one run into steps; a step names only outputs that are stored by then.

    ``parameters_failed`` says why the cell of parameters has failed, once it has. ``warn`` makes
    the steps that warn of something, and ``packages`` keeps the list of what the kernel can import.
    """

    def __init__(
        self,
        plan: RunPlan,
        epoch: int,
        artifacts: Spool,
        scope: Scope,
        *,
        warn: Callable[[str], list[Step]],
        kernelspec: str,
        packages: Callable[[], Awaitable[Representation | None]],
    ) -> None:
        self.parameters_failed: str | None = None
        self._warn = warn
        self._kernelspec = kernelspec
        self._packages = packages
        self._plan = plan
        self._epoch = epoch
        self._keeper = OutputKeeper(artifacts, scope)
        self._weight = 0
        # What has been saved of the running cell.
        self._saved: list[Output] = []
        self._truncated: set[int] = set()
        # Passed over so far; after a failure the rest of the cells needs no step of its own.
        self._skipped: list[Step] = []

    async def steps(self, report: Report) -> list[Step]:
        """The steps that a report amounts to."""
        match report:
            case KernelStarted():
                return [await self._start(report)]
            case CellStarted():
                cell = self._plan.cells.get(report.index)
                if cell is None:
                    return []
                return [*self.skipped(), self._start_cell(cell.cell_id, report.started)]
            case CellFinished():
                return await self._finished(report)
            case OutputPart():
                if report.index in self._plan.cells:
                    await self._keeper.add_part(report.index, report.number, report.data)
                return []
            case OutputsSoFar():
                return await self._so_far(report)
            case OutputsUpdated():
                return await self._updated(report)
            case WidgetsLeft():
                return await self._widgets(report)

    def take_weight(self) -> int:
        """About as many bytes are held by the steps since the last call."""
        weight, self._weight = self._weight, 0
        return weight

    def skipped(self) -> list[Step]:
        """The cells that were passed over since the last cell that ran."""
        steps, self._skipped = self._skipped, []
        return steps

    async def _start(self, report: KernelStarted) -> Step:
        at = clock.now()
        kernel = KernelFacts(
            kernelspec=self._kernelspec,
            implementation=report.implementation,
            implementation_version=report.implementation_version,
        )
        packages = await self._packages()

        def step(execution: Execution) -> None:
            lost = packages is not None and self._keeper.is_lost(packages.digest)
            execution.start(
                self._epoch,
                language=report.language,
                language_version=report.language_version,
                at=at,
                kernel=kernel,
                packages=None if lost else packages,
            )

        return step

    def _start_cell(self, cell_id: str, at: datetime) -> Step:
        return lambda execution: execution.start_cell(self._epoch, cell_id, at=at)

    async def _finished(self, report: CellFinished) -> list[Step]:
        cell = self._plan.cells.get(report.index)
        if cell is None:
            if report.status is Reported.ERROR:
                self.parameters_failed = f"{report.error_name}: {report.error_value}"
            return []
        if report.status is Reported.SKIPPED and report.started is None:
            self._skipped.append(self._finish_cell(cell.cell_id, report, []))
            return []
        if cell.cell_type != "code":
            return []
        steps: list[Step] = []
        if report.started is None:
            # An empty cell does not go to the kernel.
            steps += [*self.skipped(), self._start_cell(cell.cell_id, clock.now())]
        kept = await self._keep(report.index, cell.cell_id, report.outputs)
        self._keeper.forget(report.index, report.outputs)
        self._saved = []
        steps += self._truncate(cell.cell_id, report, kept)
        for warning in report.warnings:
            steps += self._warn(f"Cell {cell.cell_id!r}: {warning}.")
        steps.append(self._finish_cell(cell.cell_id, report, kept))
        return steps

    async def _so_far(self, report: OutputsSoFar) -> list[Step]:
        cell = self._plan.cells.get(report.index)
        if cell is None:
            return []
        new = await self._keep(report.index, cell.cell_id, report.outputs)
        saved = self._saved = [*self._saved[: report.unchanged], *new]
        at = clock.now()

        def step(execution: Execution) -> None:
            execution.save_outputs(
                self._epoch,
                cell.cell_id,
                outputs=self._keeper.stored(saved),
                output_count=report.output_count,
                output_bytes=report.output_bytes,
                at=at,
            )

        return [step]

    async def _updated(self, report: OutputsUpdated) -> list[Step]:
        cell = self._plan.cells.get(report.index)
        if cell is None:
            return []
        kept = await self._keep(report.index, cell.cell_id, report.outputs)
        at = clock.now()

        def step(execution: Execution) -> None:
            stored = self._tell_lost(execution, report, cell.cell_id, kept, at)
            execution.update_outputs(
                self._epoch,
                cell.cell_id,
                outputs=stored,
                output_count=report.output_count,
                output_bytes=report.output_bytes,
                outputs_digest=report.outputs_digest,
                at=at,
            )

        return [*self._truncate(cell.cell_id, report, kept), step]

    async def _widgets(self, report: WidgetsLeft) -> list[Step]:
        if report.state is None:
            return self._warn(
                "The state of widgets is not kept: it is more than a run may put out."
            )
        content = await self._keeper.put(report.state, WIDGET_STATE)
        epoch, at = self._epoch, clock.now()
        lost = self._warn("The state of widgets is not kept: the artifact store did not take it.")

        def step(execution: Execution) -> None:
            if not self._keeper.is_lost(content.digest):
                execution.store_widgets(epoch, content, at=at)
                return
            for warn in lost:
                warn(execution)

        return [step]

    async def _keep(self, place: int, cell_id: str, raw: Sequence[bytes]) -> list[Output]:
        kept = await self._keeper.keep(place, raw, title=self._plan.titles.get(cell_id))
        self._weight += len(msgspec.json.encode(kept))
        return kept

    def _finish_cell(self, cell_id: str, report: CellFinished, kept: list[Output]) -> Step:
        status = CellStatus(report.status.value)
        at = report.ended or clock.now()
        error = None
        if status is CellStatus.TIMED_OUT:
            # The interrupt that ended it is ours, and no fault of the notebook.
            error = CellError("TimeoutError", "the cell was still running when time was up", [])
        elif report.error_name is not None and status is not CellStatus.SUCCESS:
            error = CellError(
                report.error_name,
                plain(report.error_value or ""),
                [plain(line) for line in report.traceback],
            )
            self._weight += len(error.error_message) + sum(map(len, error.traceback))

        def step(execution: Execution) -> None:
            stored = self._tell_lost(execution, report, cell_id, kept, at)
            execution.finish_cell(
                self._epoch,
                cell_id,
                status=status,
                execution_count=report.execution_count,
                duration=report.duration or 0.0,
                outputs=stored,
                output_count=report.output_count,
                output_bytes=report.output_bytes,
                outputs_digest=report.outputs_digest,
                error=error,
                resources=_resources(report.resources),
                at=at,
            )

        return step

    def _tell_lost(
        self,
        execution: Execution,
        report: CellFinished | OutputsUpdated,
        cell_id: str,
        kept: list[Output],
        at: datetime,
    ) -> list[Output]:
        """What is stored of the outputs by now; that it is less, is recorded."""
        stored = self._keeper.stored(kept)
        if stored != kept and report.index not in self._truncated:
            execution.truncate_output(
                self._epoch,
                cell_id,
                output_bytes=report.output_bytes,
                kept_bytes=_bytes_of(stored),
                at=at,
            )
            told = f"Cell {cell_id!r}: output is not kept, which the artifact store did not take."
            execution.warn(self._epoch, told, at=at)
        return stored

    def _truncate(
        self, cell_id: str, report: CellFinished | OutputsUpdated, kept: Sequence[Output]
    ) -> list[Step]:
        """The steps that say that not all is kept, where that is so and not yet said."""
        if not report.truncated or report.index in self._truncated:
            return []
        self._truncated.add(report.index)
        at = clock.now()
        kept_bytes = _bytes_of(kept)

        def step(execution: Execution) -> None:
            execution.truncate_output(
                self._epoch,
                cell_id,
                output_bytes=report.output_bytes,
                kept_bytes=kept_bytes,
                at=at,
            )

        missing = NotKept(
            max(report.output_count - len(kept), 0), max(report.output_bytes - kept_bytes, 0)
        )
        # Nothing of what came is missing where it is flagged for what may not have come.
        told = f"Cell {cell_id!r}: {in_words(missing)} beyond the limits on output: not kept."
        return [step, *(self._warn(told) if missing else [])]


def _bytes_of(outputs: Sequence[Output]) -> int:
    return sum(form.size for output in outputs for form in output.representations)


def last_step(finished: RunFinished, epoch: int, *, parameters_failed: str | None) -> Step:
    """How the attempt ended: with it the run, or, where its request allows, it begins anew."""
    end = conclusion(finished, epoch, parameters_failed=parameters_failed)
    if parameters_failed is not None:
        return end
    code = _CODES[finished.outcome]
    at, detail = clock.now(), _clean(finished.detail)

    def step(execution: Execution) -> None:
        if execution.may_retry(code):
            execution.retry(epoch, code, detail, at=at)
        else:
            end(execution)

    return step


_CODES: Final = {
    Outcome.COMPLETED: TerminationCode.SUCCESS,
    Outcome.CANCELLED: TerminationCode.CANCELLED,
    Outcome.CELL_ERROR: TerminationCode.CELL_ERROR,
    Outcome.TIMED_OUT: TerminationCode.RUN_TIMEOUT,
    Outcome.CELL_TIMED_OUT: TerminationCode.CELL_TIMEOUT,
    Outcome.MEMORY_LIMIT: TerminationCode.MEMORY_LIMIT,
    Outcome.CPU_LIMIT: TerminationCode.CPU_LIMIT,
    Outcome.PROCESS_LIMIT: TerminationCode.PROCESS_LIMIT,
    Outcome.DISK_LIMIT: TerminationCode.DISK_LIMIT,
    Outcome.KERNEL_DIED: TerminationCode.KERNEL_DIED,
    Outcome.FAILED_TO_START: TerminationCode.KERNEL_START_FAILED,
    Outcome.SUPERVISOR_LOST: TerminationCode.INTERNAL_ERROR,
}


def conclusion(finished: RunFinished, epoch: int, *, parameters_failed: str | None) -> Step:
    """The end of a run: how it ended."""
    at = clock.now()
    resources = resources_of(finished)
    code, detail = _CODES[finished.outcome], _clean(finished.detail)
    if parameters_failed is not None:
        code = TerminationCode.CELL_ERROR
        detail = _clean(f"The parameters failed: {parameters_failed}")

    def step(execution: Execution) -> None:
        match code:
            case TerminationCode.SUCCESS:
                execution.complete(epoch, resources=resources, at=at)
            case TerminationCode.CANCELLED:
                execution.cancel(epoch, resources=resources, at=at)
            case TerminationCode.RUN_TIMEOUT | TerminationCode.CELL_TIMEOUT:
                execution.time_out(epoch, code, detail=detail, resources=resources, at=at)
            case TerminationCode.KERNEL_DIED:
                execution.kernel_died(epoch, detail=detail, resources=resources, at=at)
            case _:
                execution.fail(epoch, code, detail=detail, resources=resources, at=at)

    return step


def resources_of(finished: RunFinished) -> Resources:
    """What a run has used."""
    return Resources(
        peak_memory_bytes=finished.peak_memory_bytes or None,
        cpu_seconds=finished.cpu_seconds,
        disk_bytes=finished.disk_bytes,
    )


def _resources(used: CellResources | None) -> Resources | None:
    if used is None:
        return None
    return Resources(
        peak_memory_bytes=used.peak_memory_bytes or None,
        cpu_seconds=used.cpu_seconds,
        disk_bytes=used.disk_bytes,
    )


def _clean(detail: str) -> str:
    return plain(detail).replace("\0", "")[:_DETAIL_CHARACTERS]
