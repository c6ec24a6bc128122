"""Running one execution that this worker has claimed, from its notebook to its terminal event."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from nbledger_application import claims
from nbledger_application.claims import Claim
from nbledger_application.recording import FencedError, Recorder
from nbledger_domain.execution import Execution, Resources, TerminationCode
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure import clock
from nbledger_infrastructure.artifacts.store import (
    ArtifactStoreUnavailableError,
    Scope,
)
from nbledger_infrastructure.packages import EnvironmentFailedError
from nbledger_infrastructure.postgres.database import DatabaseUnavailableError
from nbledger_infrastructure.postgres.event_store import StoreUnavailableError
from nbledger_workers.confinement import levels as confinement
from nbledger_workers.kernel.driving.driver import KernelRun, Report
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellStarted,
    Heartbeat,
    KernelStarted,
    Outcome,
    RunFinished,
    RunNotebook,
)
from nbledger_workers.results.collector import Collector
from nbledger_workers.running.environments import Provision
from nbledger_workers.running.pending import PendingSteps
from nbledger_workers.running.report_queue import ReportQueue
from nbledger_workers.running.run_context import RunContext
from nbledger_workers.running.run_lease import RunLease
from nbledger_workers.running.run_report import RunReport
from nbledger_workers.running.services import Services
from nbledger_workers.storing.patience import Patience
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation.planning import Plan, PlanError, plan
from nbledger_workers.translation.steps import Step, Translator, last_step, resources_of

log = structlog.get_logger(__name__)

_LAST_WORD_SECONDS: Final = 5.0
_LEAST_SECONDS: Final = 0.1
_COLLECT_SECONDS: Final = 60.0
"""Extra seconds, after the timeout or a cancel, for collecting what a notebook left."""
_NOT_ALL_KEPT: Final = "Some results of the notebook were not saved: {why} while collecting them."
_NOT_ALL_REPORTED: Final = "The report is not whole: {why} while it was made."
_UNLIMITED_MB: Final = 1_000_000
_UNLIMITED_COUNT: Final = 1_000_000_000
_SOON_SECONDS: Final = 0.02
"""What comes so soon after something is recorded together with it."""
_GATHER_SECONDS: Final = 0.05
"""For how long the reports of many short cells gather before they are recorded."""
_REPORTED: Final = (Outcome.COMPLETED, Outcome.CELL_ERROR)


class Halt(Enum):
    """Why a worker stops a run that has not ended."""

    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"


class Run:
    """One attempt. Whatever happens, no kernel is left when :meth:`run` returns."""

    def __init__(self, services: Services, claim: Claim) -> None:
        self._services = services
        self._claim = claim
        self._away_seconds = services.settings.worker.database_away_seconds
        self._recorder = Recorder(
            services.store, claim, away_seconds=self._away_seconds, on_cancel=self.cancel
        )
        self._pending = PendingSteps(
            self._record_stored, max_bytes=services.settings.worker.pending_mb * MB
        )
        self._patience = Patience(
            database_seconds=self._away_seconds,
            artifacts_seconds=services.settings.artifacts.unavailable_seconds,
        )
        self._spool = Spool(
            services.artifacts,
            self._spool_folder,
            max_bytes=services.settings.artifacts.spool_mb * MB,
            seconds=services.settings.artifacts.unavailable_seconds,
            on_failed=self._stop_unkept,
        )
        self._provision = Provision(
            services.environments, self._recorder, claim.epoch, claim.stream, self._patience
        )
        self._kernel: KernelRun | None = None
        self._collector: Collector | None = None
        self._collecting: asyncio.Timeout | None = None
        self._collects = True
        self._time_is_up = 0.0
        self._cells_over = False
        self._work: asyncio.Task[None] | None = None
        self._cancelled = False
        self._halted: Halt | None = None
        self.concluded = False
        """Whether it is recorded how the attempt has ended."""
        self.over = asyncio.Event()
        """Set when nothing of it is left."""
        self._reports = ReportQueue()

    def cancel(self) -> None:
        """Stop because somebody asked for it."""
        if not self._cancelled:
            self._stop_collecting()
        self._cancelled = True
        self._provision.cancel()
        if self._kernel is not None:
            self._kernel.cancel("The run was cancelled.")

    def _stop_collecting(self) -> None:
        """At once where nothing else goes on; soon where cells may still run."""
        limit = self._collecting
        if limit is None or limit.expired():
            return
        now = asyncio.get_running_loop().time()
        until = now if self._cells_over else now + _COLLECT_SECONDS
        limit.reschedule(min(limit.when() or until, until))

    def hand_back(self) -> None:
        """Stop because the worker ends: another one may have the run if no cell has run."""
        self._halt(Halt.SHUTDOWN)

    def _halt(self, why: Halt) -> None:
        if self._halted is None:
            self._halted = why
            if self._work is not None:
                self._work.cancel()

    async def run(self) -> None:
        """Run to the terminal event, or until this attempt may not or need not go on."""
        self._work = asyncio.create_task(self._run_notebook())
        lease = RunLease(
            self._services,
            self._claim,
            on_lost=lambda: self._halt(Halt.LEASE_LOST),
            on_cancel=self.cancel,
        )
        try:
            try:
                await asyncio.wait({self._work})
            finally:
                self._work.cancel()
                await asyncio.gather(self._work, return_exceptions=True)
            await self._conclude(self._work)
        finally:
            await lease.end(lost=self._halted is Halt.LEASE_LOST)
            self.over.set()

    async def _conclude(self, work: asyncio.Task[None]) -> None:
        """Say what is to be said when the work ended otherwise than by a terminal event."""
        if work.cancelled():
            if self._halted is Halt.LEASE_LOST:
                log.warning("run stopped: its lease has ended")
            elif self._halted is Halt.SHUTDOWN:
                await self._last_word(self._give_up)
                log.info("run handed back")
            return
        error = work.exception()
        if error is None:
            return
        if isinstance(error, FencedError):
            log.warning("run stopped: another attempt holds it or it has ended")
        elif isinstance(error, DatabaseUnavailableError):
            log.error("run stopped: the database stays away")
        elif isinstance(error, ArtifactStoreUnavailableError):
            log.error("run failed: the artifact store stays away", reason=error.reason)
            await self._last_word(
                self._failing(TerminationCode.ARTIFACT_STORE_UNAVAILABLE, _unkept(error))
            )
        else:
            reference = secrets.token_hex(4)
            log.error("run failed", exc_info=error, reference=reference)
            detail = f"The worker failed; its log has the cause under the reference {reference}."
            await self._last_word(self._failing(TerminationCode.INTERNAL_ERROR, detail))

    async def _last_word(self, step: Step) -> None:
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._recorder.record(step)
        except FencedError:
            pass
        except (TimeoutError, StoreUnavailableError):
            log.warning("end of the run not recorded, it will be swept")

    def _give_up(self, execution: Execution) -> None:
        claims.give_up(
            execution,
            self._claim.epoch,
            "The worker was shut down.",
            max_attempts=self._services.settings.recovery.max_attempts,
            at=clock.now(),
        )

    def _failing(
        self, reason: TerminationCode, detail: str, finished: RunFinished | None = None
    ) -> Step:
        at = clock.now()
        used = Resources() if finished is None else resources_of(finished)
        return lambda execution: execution.fail(
            self._claim.epoch, reason, detail=detail, resources=used, at=at
        )

    def _spool_folder(self) -> Path:
        """Where outputs wait: beside the folder of the run, which the notebook can write."""
        folder = None if self._kernel is None else self._kernel.folder
        assert folder is not None  # noqa: S101 - only a kernel puts anything out
        return folder.parent

    def _stop_unkept(self) -> None:
        """What the notebook puts out cannot be kept: it need not go on."""
        if self._kernel is not None:
            self._kernel.cancel("The artifact store is not usable.")

    async def _record_stored(self, step: Step) -> None:
        """Record a step once what it names is stored, or known to be lost."""
        await self._spool.settle()
        await self._recorder.record(step)

    async def _run_notebook(self) -> None:
        execution = self._claim.execution
        notebook = self._claim.notebook
        if notebook is None:
            at = clock.now()
            await self._recorder.record(
                lambda execution: execution.cancel(
                    self._claim.epoch,
                    resources=Resources(),
                    reason=TerminationCode.NOTEBOOK_DELETED,
                    at=at,
                )
            )
            return
        offer = self._services.offers[execution.kernel_type]
        try:
            planned = plan(execution, notebook, offer.language)
        except PlanError as error:
            await self._recorder.record(self._failing(TerminationCode.INTERNAL_ERROR, str(error)))
            return
        services = self._services
        self._collector = Collector(
            services.store,
            self._spool,
            services.settings.limits,
            self._claim,
            patience=self._patience,
        )
        context = RunContext(
            services.store,
            services.artifacts,
            self._claim.stream,
            execution,
            notebook,
            patience=self._patience,
        )
        request = self._request(execution, planned, offer.kernelspec, context)
        try:
            provided = await self._provide(notebook, offer.language, execution.options.timeout)
            if provided is None:
                return
            request = msgspec.structs.replace(request, timeout=provided)
            self._time_is_up = asyncio.get_running_loop().time() + provided
            self._pending.start()
            await self._run_kernel(execution, notebook, planned, request, context)
        finally:
            await self._pending.close()
            await self._spool.close()
            # Behind the terminal event: nobody waits for it but the next run for its slot.
            try:
                if self._kernel is not None:
                    await self._kernel.close()
                await self._collector.close()
            finally:
                self._provision.release()

    async def _provide(self, notebook: Notebook, language: str, timeout: float) -> float | None:
        """Have the packages provided that the notebook asks for.

        Returns the seconds that are left of the timeout; ``None`` when the attempt has ended.
        """
        begun = time.monotonic()
        try:
            await self._provision.run(notebook.environment, language, seconds=timeout)
        except EnvironmentFailedError as error:
            await self._recorder.record(
                self._failing(TerminationCode.ENVIRONMENT_FAILED, str(error))
            )
        except TimeoutError:
            detail = (
                f"the run took longer than {timeout:g} seconds; its packages were not there yet"
            )
            await self._end_before_cells(Outcome.TIMED_OUT, detail)
        else:
            if self._cancelled:
                # A kernel would only be started to be ended.
                await self._end_before_cells(Outcome.CANCELLED, "The run was cancelled.")
            elif self._provision.environment is None:
                return timeout
            else:
                return max(timeout - (time.monotonic() - begun), _LEAST_SECONDS)
        self.concluded = True
        return None

    async def _end_before_cells(self, outcome: Outcome, detail: str) -> None:
        finished = RunFinished(outcome=outcome, detail=detail)
        await self._recorder.record(last_step(finished, self._claim.epoch, parameters_failed=None))

    def _request(
        self,
        execution: Execution,
        planned: Plan,
        kernelspec: str,
        context: RunContext,
    ) -> RunNotebook:
        options = execution.options
        limits = self._services.settings.limits
        return RunNotebook(
            exit_seconds=self._services.settings.worker.exit_seconds,
            notebook=planned.notebook,
            cells_to_run=list(range(planned.count)),
            kernel_name=kernelspec,
            timeout=options.timeout,
            cell_timeout=options.cell_timeout,
            continue_on_error=options.continue_on_error,
            capture_outputs=options.output_options.capture_outputs,
            save_intermediate_results=options.output_options.save_intermediate_results,
            limits=confinement.run_limits(limits),
            max_output_bytes=(limits.output_mb_per_cell or _UNLIMITED_MB) * MB,
            max_output_bytes_per_run=(limits.output_mb_per_run or _UNLIMITED_MB) * MB,
            max_outputs=limits.outputs_per_cell or _UNLIMITED_COUNT,
            # The cell of parameters acts on nothing, and no event tells of it.
            held_cells=sorted(planned.cells),
            context=context.encode(),
        )

    async def _run_kernel(
        self,
        execution: Execution,
        notebook: Notebook,
        planned: Plan,
        request: RunNotebook,
        context: RunContext,
    ) -> None:
        stream = self._claim.stream
        scope = Scope(stream.tenant_id, stream.project_id, stream.subject_id)
        assert self._collector is not None  # noqa: S101 - there since the run began
        translator = Translator(
            planned,
            self._claim.epoch,
            self._spool,
            scope,
            warn=self._collector.warning,
        )
        report = self._report_of(execution, notebook, planned)

        async def on_message(message: Report) -> None:
            if isinstance(message, KernelStarted):
                self._services.on_language(execution.kernel_type, message.language_version)
            if report is not None:
                report.put(message)
            await self._reports.put(message)

        self._kernel = KernelRun(
            request,
            on_message=on_message,
            on_usage=self._tell_usage,
            prepare=context.prepare if context.has_to_prepare else None,
            pool=self._services.kernels,
            environment=self._provision.environment,
        )
        if self._cancelled:
            self.cancel()
        running = asyncio.create_task(self._kernel.run())
        writing = asyncio.create_task(self._write(translator, planned))
        if report is not None:
            report.start()
        try:
            await self._until_finished(running, writing)
            finished = await running
            self._reports.close()
            steps = await writing
            self._cells_over = True
            if finished.outcome is Outcome.COMPLETED:
                steps += translator.skipped()
            steps = await self._with(steps, self._collect(finished, context))
            if report is not None and finished.outcome in _REPORTED:
                make = partial(report.make, context.bound)
                steps = await self._with(steps, self._in_time(make, _NOT_ALL_REPORTED))
        finally:
            for task in (running, writing):
                task.cancel()
            await asyncio.gather(running, writing, return_exceptions=True)
            if report is not None:
                await report.close()
        steps.append(await self._end(finished, translator))
        await self._pending.put(steps)
        await self._pending.flush()
        self.concluded = True
        log.info("run ended", outcome=finished.outcome.value, **_measured(finished))

    async def _until_finished(
        self, running: asyncio.Task[RunFinished], writing: asyncio.Task[list[Step]]
    ) -> None:
        """Wait for the last cell; raises what keeps the run from being recorded."""
        await asyncio.wait(
            {running, writing, self._pending.recording}, return_when=asyncio.FIRST_COMPLETED
        )
        if running.done():
            return
        # The others end before the run only by an error: nothing more can be recorded.
        running.cancel()
        await asyncio.wait({running})
        with suppress(TimeoutError):
            # What the cells did is told before that error, where it can be.
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await self._pending.flush()
        await writing

    async def _end(self, finished: RunFinished, translator: Translator) -> Step:
        """How the run has ended, which is known once all that it put out is stored or lost."""
        end = last_step(finished, self._claim.epoch, parameters_failed=translator.parameters_failed)
        await self._spool.settle()
        unkept = self._spool.failure
        if unkept is None or self._cancelled:
            return end
        return self._failing(TerminationCode.ARTIFACT_STORE_UNAVAILABLE, _unkept(unkept), finished)

    def _tell_usage(self, used: Heartbeat) -> None:
        usage = Resources(
            peak_memory_bytes=used.peak_memory_bytes,
            cpu_seconds=used.cpu_seconds,
            disk_bytes=used.disk_bytes,
        )
        self._services.keeper.tell_usage(self._claim.lease, usage)

    async def _write(self, translator: Translator, planned: Plan) -> list[Step]:
        """Record reports as they come: all that have gathered meanwhile in one append.

        Returns what may be recorded together with the end of the run.
        """
        confirmed = False
        while batch := await self._reports.take():
            if isinstance(batch[-1], KernelStarted):
                # The first cell follows at once: one append for both.
                batch += await self._reports.take(within=_SOON_SECONDS)
            elif confirmed and not _is_last(batch[-1], planned):
                # Of many short cells several go into one append.
                batch += await self._reports.gather(within=_GATHER_SECONDS)
            steps: list[Step] = []
            for message in batch:
                steps += await translator.steps(message)
                if isinstance(message, CellFinished):
                    self._note_end(message, planned)
                    steps += await self._handed_back()
            last = confirmed and _is_last(batch[-1], planned)
            # The end follows at once: likewise.
            if last and await self._reports.ends(within=_SOON_SECONDS):
                return steps
            begins = not confirmed and any(
                isinstance(message, CellStarted) and message.index in planned.cells
                for message in batch
            )
            if steps:
                # Only once it is recorded that cells run may one act on the world: from there on
                # the run is not begun again.
                then = self._confirm if begins else None
                await self._pending.put(steps, weight=translator.take_weight(), then=then)
            confirmed = confirmed or begins
            if translator.parameters_failed is not None and self._kernel is not None:
                # Whatever follows would run with other values than were asked for.
                self._kernel.cancel("The parameters failed.")
        return []

    def _confirm(self) -> None:
        if self._kernel is not None:
            self._kernel.confirm()

    def _note_end(self, message: CellFinished, planned: Plan) -> None:
        cell = planned.cells.get(message.index)
        if self._collector is not None:
            self._collector.cell_ended(
                None if cell is None else cell.cell_id, message.handed_back, message.looked_ns
            )

    async def _handed_back(self) -> list[Step]:
        """What cells have handed back, where it is to be seen before the run ends."""
        options = self._claim.execution.options.output_options
        if not options.save_intermediate_results or self._kernel is None:
            return []
        folder, collector = self._kernel.folder, self._collector
        if folder is None or collector is None:
            return []
        return await self._in_time(
            partial(collector.handed_back, folder, all_over=False), _NOT_ALL_KEPT
        )

    async def _with(self, steps: list[Step], more: Coroutine[None, None, list[Step]]) -> list[Step]:
        """These steps and more of them, which may be recorded together with the end of the run.

        Where it takes its time to come by them, these are recorded before.
        """
        coming = asyncio.create_task(more)
        try:
            await asyncio.wait({coming}, timeout=_SOON_SECONDS)
            if steps and not coming.done():
                await self._pending.put(steps)
                steps = []
            return steps + await coming
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _collect(self, finished: RunFinished, context: RunContext) -> list[Step]:
        """What the notebook has left."""
        folder = None if self._kernel is None else self._kernel.folder
        collector = self._collector
        if folder is None or collector is None or finished.outcome is Outcome.FAILED_TO_START:
            return []
        steps = [
            step
            for dataset in context.missing
            for step in collector.warning(
                f"The dataset {dataset.name!r} is held, but its file is not there any more."
            )
        ]

        for warning in finished.warnings:
            steps += collector.warning(warning)

        async def collect(steps: list[Step]) -> None:
            await collector.handed_back(folder, steps, all_over=True)
            await collector.left_behind(folder, steps)

        return steps + await self._in_time(collect, _NOT_ALL_KEPT)

    async def _in_time(
        self, collect: Callable[[list[Step]], Awaitable[None]], warning: str
    ) -> list[Step]:
        """What is collected before time is up or the run is cancelled; then no more ever.

        Where something is missing therefore, the run warns of it.
        """
        assert self._collector is not None  # noqa: S101 - there since the run began
        steps: list[Step] = []
        if not self._collects:
            return steps
        now = asyncio.get_running_loop().time()
        begin = now if self._cancelled else max(now, self._time_is_up)
        try:
            async with asyncio.timeout_at(begin + _COLLECT_SECONDS) as limit:
                self._collecting = limit
                with self._patience.within(limit):
                    await collect(steps)
        except TimeoutError:
            self._collects = False
            why = "the run was cancelled" if self._cancelled else "it took too long"
            steps += self._collector.warning(warning.format(why=why))
        finally:
            self._collecting = None
        return steps

    def _report_of(
        self, execution: Execution, notebook: Notebook, planned: Plan
    ) -> RunReport | None:
        if not execution.options.output_options.generate_report:
            return None
        assert self._collector is not None  # noqa: S101 - there since the run began
        return RunReport(
            execution,
            notebook,
            planned,
            claim=self._claim,
            spool=self._spool,
            warn=self._collector.warning,
            browser_setting=self._services.settings.worker.report_browser,
        )


def _is_last(message: Report, planned: Plan) -> bool:
    return isinstance(message, CellFinished) and message.index == planned.last


def _unkept(error: ArtifactStoreUnavailableError) -> str:
    return f"What the run has put out could not be kept. The artifact store: {error.reason}."


def _measured(finished: RunFinished) -> dict[str, float]:
    return {
        "cpu_seconds": round(finished.cpu_seconds, 2),
        "peak_memory_mb": finished.peak_memory_bytes // MB,
    }
