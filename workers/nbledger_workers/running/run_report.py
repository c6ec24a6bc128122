"""The report of one run: gathered while the run goes on, rendered and stored at its end."""

import asyncio
from collections.abc import Callable
from typing import Literal

import structlog

from nbledger_application.claims import Claim
from nbledger_domain.execution import Execution, Representation
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import clock
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.datasets import DatasetHead
from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.reports import browser, report
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation.planning import RunPlan
from nbledger_workers.translation.steps import Step

log = structlog.get_logger(__name__)


class RunReport:
    """Takes what the kernel reports, and makes a page of it.

    Whoever calls :meth:`start` calls :meth:`close`. ``browser_setting`` is
    ``worker.report_browser``.
    """

    def __init__(
        self,
        execution: Execution,
        notebook: Notebook,
        planned: RunPlan,
        *,
        claim: Claim,
        spool: Spool,
        warn: Callable[[str], list[Step]],
        browser_setting: str,
    ) -> None:
        self._page = report.ReportPage(planned, execution, notebook)
        self._claim = claim
        self._spool = spool
        self._warn = warn
        self._browser_setting = browser_setting
        self._renderer: asyncio.Task[report.Renderer | None] | None = None

    def start(self) -> None:
        """Start the process that renders the page, beside the run."""
        self._renderer = asyncio.create_task(_start_renderer())

    def put(self, message: Report) -> None:
        """Take what the kernel reports into the page."""
        self._page.put(message)

    async def close(self) -> None:
        """End the process that renders, also when it is just being started."""
        renderer = None if self._renderer is None else await self._renderer
        if renderer is not None:
            await renderer.close()

    async def make(self, bound: DatasetHead | None, steps: list[Step]) -> None:
        """Render and store the report, adding ``steps``; a failure costs the report alone.

        ``bound`` is the dataset that the notebook is bound to.
        """
        # Shielded: it is ended with the run, even if its report comes too late.
        renderer = None if self._renderer is None else await asyncio.shield(self._renderer)
        if renderer is None:
            return
        if bound is not None:
            self._page.dataset = f"{bound.name}, version {bound.version} ({bound.dataset_id})"
        try:
            content, notes = await renderer.render(self._page)
        except Exception as error:  # noqa: BLE001 - a report is an extra, whatever went wrong
            log.warning("report not made", error=repr(error))
            why = f": {error}" if isinstance(error, report.ReportError) else ""
            steps += self._warn(f"The report could not be made{why}.")
            return
        for note in report.warnings(notes):
            steps += self._warn(note)
        steps.append(await self._keep("html", content))
        program = browser.find(self._browser_setting)
        if program is None:
            return
        try:
            printed = await browser.print_pdf(program, content)
        except (browser.PrintError, OSError) as error:
            log.warning("report not printed", error=str(error))
            steps += self._warn(f"The report could not be made as PDF: {error}.")
        else:
            steps.append(await self._keep("pdf", printed))

    async def _keep(self, form: Literal["html", "pdf"], content: bytes) -> Step:
        stream, page = self._claim.stream, self._page
        scope = Scope(stream.tenant_id, stream.project_id, stream.subject_id)
        digest = await self._spool.put(scope, content)
        stored = Representation(report.MEDIA_TYPES[form], digest, len(content))
        at = clock.now()

        def step(execution: Execution) -> None:
            if self._spool.is_lost(digest):
                return
            execution.store_artifact(
                self._claim.epoch,
                kind="report",
                name=page.title,
                file_name=report.file_name(page.title, form),
                content=stored,
                attributes={"format": form, "code": "hidden" if page.hides_code else "shown"},
                at=at,
            )

        return step


async def _start_renderer() -> report.Renderer | None:
    if not report.available():
        log.warning("report not made", error="nbconvert is not installed")
        return None
    try:
        return await report.Renderer.start()
    except OSError as error:
        log.warning("report not made", error=repr(error))
        return None
