"""Running one execution that this worker has claimed, from its notebook to its terminal event."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from nbledger_application.claims import Claim
from nbledger_application.recording import Recorder
from nbledger_domain.execution import Execution, Representation, Resources, TerminationCode
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.languages import KERNELSPECS
from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure import clock
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.packages import EnvironmentFailedError
from nbledger_workers.kernel.driving.driver import KernelRun, Report
from nbledger_workers.kernel.protocol import (
    Heartbeat,
    KernelStarted,
    Outcome,
    RunFinished,
    RunNotebook,
)
from nbledger_workers.results.collector import Collector
from nbledger_workers.running.conclusion import LAST_WORD_SECONDS, Conclusion, Halt
from nbledger_workers.running.environments import Provision
from nbledger_workers.running.leavings import Leavings, with_more
from nbledger_workers.running.pending import PendingSteps
from nbledger_workers.running.report_queue import ReportQueue
from nbledger_workers.running.report_recorder import ReportRecorder
from nbledger_workers.running.run_context import RunContext
from nbledger_workers.running.run_lease import RunLease
from nbledger_workers.running.run_report import RunReport
from nbledger_workers.running.run_request import run_request
from nbledger_workers.running.services import RunServices
from nbledger_workers.storing.patience import Patience
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation.planning import PlanError, RunPlan, plan
from nbledger_workers.translation.steps import Step, Translator, last_step

log = structlog.get_logger(__name__)

_LEAST_SECONDS: Final = 0.1
_NOT_ALL_REPORTED: Final = "The report is not whole: {why} while it was made."
_REPORTED: Final = (Outcome.COMPLETED, Outcome.CELL_ERROR)


class Run:
    """One attempt. Whatever happens, no kernel is left when :meth:`run` returns."""

    def __init__(self, services: RunServices, claim: Claim) -> None:
        self._services = services
        self._claim = claim
        self._away_seconds = services.settings.worker.database_away_seconds
        self._recorder = Recorder(
            services.store, claim, away_seconds=self._away_seconds, on_cancel=self.cancel
        )
        self._conclusion = Conclusion(
            self._recorder, claim, max_attempts=services.settings.recovery.max_attempts
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
        self._leavings: Leavings | None = None
        self._time_is_up = 0.0
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
        self._cancelled = True
        if self._leavings is not None:
            self._leavings.cancel()
        self._provision.cancel()
        if self._kernel is not None:
            self._kernel.cancel("The run was cancelled.")

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
            await self._conclusion.after(self._work, self._halted)
        finally:
            await lease.end(lost=self._halted is Halt.LEASE_LOST)
            self.over.set()

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
            await self._conclusion.notebook_deleted()
            return
        offer = self._services.offers[execution.kernel_type]
        try:
            planned = plan(execution, notebook, offer.language)
        except PlanError as error:
            await self._recorder.record(
                self._conclusion.failing(TerminationCode.INTERNAL_ERROR, str(error))
            )
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
        request = run_request(execution, planned, offer.kernelspec, context, services.settings)
        async with AsyncExitStack() as ends:
            # Each of them, even if another one fails or this is cancelled meanwhile. Behind the
            # terminal event nobody waits for kernel and collector but the next run for its slot.
            ends.callback(self._provision.release)
            ends.push_async_callback(self._collector.close)
            ends.push_async_callback(self._close_kernel)
            ends.push_async_callback(self._spool.close)
            ends.push_async_callback(self._pending.close)
            provided = await self._provide(notebook, offer.language, execution.options.timeout)
            if provided is None:
                return
            request = msgspec.structs.replace(request, timeout=provided)
            self._time_is_up = asyncio.get_running_loop().time() + provided
            self._pending.start()
            await self._run_kernel(execution, notebook, planned, request, context)

    async def _close_kernel(self) -> None:
        if self._kernel is not None:
            await self._kernel.close()

    async def _packages(self, kernelspec: str, scope: Scope) -> Representation | None:
        """The list of what the kernel can import; of this worker's own interpreter it is known."""
        if kernelspec != KERNELSPECS["python3"]:
            return None
        environments = self._services.environments
        content = environments.packages(self._provision.environment)
        return await environments.package_lists.keep(self._spool, scope, content)

    async def _provide(self, notebook: Notebook, language: str, timeout: float) -> float | None:
        """Have the packages provided that the notebook asks for.

        Returns the seconds that are left of the timeout; ``None`` when the attempt has ended.
        """
        begun = time.monotonic()
        try:
            await self._provision.run(notebook.environment, language, seconds=timeout)
        except EnvironmentFailedError as error:
            await self._recorder.record(
                self._conclusion.failing(TerminationCode.ENVIRONMENT_FAILED, str(error))
            )
        except TimeoutError:
            detail = (
                f"the run took longer than {timeout:g} seconds; its packages were not there yet"
            )
            await self._conclusion.before_cells(Outcome.TIMED_OUT, detail)
        else:
            if self._cancelled:
                # A kernel would only be started to be ended.
                await self._conclusion.before_cells(Outcome.CANCELLED, "The run was cancelled.")
            elif self._provision.environment is None:
                return timeout
            else:
                return max(timeout - (time.monotonic() - begun), _LEAST_SECONDS)
        self.concluded = True
        return None

    async def _run_kernel(
        self,
        execution: Execution,
        notebook: Notebook,
        planned: RunPlan,
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
            kernelspec=request.kernel_name,
            packages=partial(self._packages, request.kernel_name, scope),
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
            prepare=partial(self._prepare, context) if context.has_to_prepare else None,
            pool=self._services.kernels,
            environment=self._provision.environment,
        )
        self._leavings = leavings = Leavings(
            self._collector,
            self._kernel,
            self._patience,
            time_is_up=self._time_is_up,
            intermediate=execution.options.output_options.save_intermediate_results,
        )
        recorder = ReportRecorder(
            self._reports,
            translator,
            planned,
            kernel=self._kernel,
            leavings=leavings,
            pending=self._pending,
        )
        if self._cancelled:
            self.cancel()
        running = asyncio.create_task(self._kernel.run())
        writing = asyncio.create_task(recorder.run())
        if report is not None:
            report.start()
        try:
            await self._until_finished(running, writing)
            finished = await running
            self._reports.close()
            steps = await writing
            leavings.cells_over = True
            if finished.outcome is Outcome.COMPLETED:
                steps += translator.skipped()
            steps = await with_more(
                steps, leavings.of_run(finished, context.warnings), self._pending
            )
            if report is not None and finished.outcome in _REPORTED:
                make = partial(report.make, context.bound)
                late = leavings.in_time(make, _NOT_ALL_REPORTED)
                steps = await with_more(steps, late, self._pending)
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

    async def _prepare(self, context: RunContext, folder: Path) -> bytes:
        """Prepare the run's folder; that it has its datasets is recorded before its first cell."""
        run_file = await context.prepare(folder)
        if (given := context.given) is not None:
            at, epoch = clock.now(), self._claim.epoch
            await self._pending.put(
                [lambda execution: execution.give_datasets(epoch, given, at=at)]
            )
        return run_file

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
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._pending.flush()
        await writing

    async def _end(self, finished: RunFinished, translator: Translator) -> Step:
        """How the run has ended, which is known once all that it put out is stored or lost."""
        end = last_step(finished, self._claim.epoch, parameters_failed=translator.parameters_failed)
        await self._spool.settle()
        unkept = self._spool.failure
        if unkept is None or self._cancelled:
            return end
        return self._conclusion.unkept(unkept, finished)

    def _tell_usage(self, used: Heartbeat) -> None:
        usage = Resources(
            peak_memory_bytes=used.peak_memory_bytes,
            cpu_seconds=used.cpu_seconds,
            disk_bytes=used.disk_bytes,
        )
        self._services.keeper.tell_usage(self._claim.lease, usage)

    def _report_of(
        self, execution: Execution, notebook: Notebook, planned: RunPlan
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


def _measured(finished: RunFinished) -> dict[str, float]:
    return {
        "cpu_seconds": round(finished.cpu_seconds, 2),
        "peak_memory_mb": finished.peak_memory_bytes // MB,
    }
