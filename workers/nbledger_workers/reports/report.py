"""The report of a run: HTML that loads nothing from anywhere, made by nbconvert; and as PDF."""

import asyncio
import importlib.util
import re
import sys
from datetime import datetime
from typing import Any, Final, Self

import msgspec

from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook
from nbledger_domain.words import many
from nbledger_infrastructure import clock
from nbledger_infrastructure.programs import Program
from nbledger_workers.kernel.driving.driver import Report
from nbledger_workers.kernel.driving.pair import python_environment
from nbledger_workers.kernel.protocol import (
    CellFinished,
    KernelStarted,
    OutputPart,
    OutputsUpdated,
    WidgetsLeft,
)
from nbledger_workers.reports.outputs import ReportOutputs
from nbledger_workers.reports.widgets import ShownOutputs
from nbledger_workers.translation.planning import RunPlan

MEDIA_TYPES: Final = {"html": "text/html", "pdf": "application/pdf"}

_RENDER_SECONDS: Final = 120.0
_MOST_WARNINGS: Final = 5


class ReportError(Exception):
    """The report could not be rendered; the message is the program's last line."""


class ReportPage:
    """What goes into a report, gathered while the notebook runs.

    ``dataset`` tells in words of the dataset that was bound.
    """

    def __init__(self, plan: RunPlan, execution: Execution, notebook: Notebook) -> None:
        self._kernel = execution.kernel_type
        self.dataset: str | None = None
        self._plan = plan
        self._execution = execution
        self.title = notebook.name
        self._started = clock.now()
        self._outputs = ReportOutputs()
        self._counts: dict[int, int | None] = {}
        self._widgets: bytes | None = None

    def put(self, message: Report) -> None:
        """Take what a report is made of: the kernel's version, and outputs of cells."""
        if isinstance(message, KernelStarted):
            self._kernel += f" ({message.language} {message.language_version})"
            return
        if isinstance(message, WidgetsLeft):
            self._widgets = message.state
        elif isinstance(message, OutputPart):
            self._outputs.put_part(message)
        elif isinstance(message, CellFinished | OutputsUpdated):
            self._outputs.put(message)
        if isinstance(message, CellFinished):
            self._counts[message.index] = message.execution_count

    def document(self) -> bytes:
        """The notebook with its outputs, as nbformat 4 JSON."""
        notebook: dict[str, Any] = msgspec.json.decode(self._plan.notebook)
        shown = ShownOutputs(self._widgets)
        for index, cell in enumerate(notebook["cells"]):
            planned = self._plan.cells.get(index)
            if planned is not None:
                cell["metadata"] = {**cell["metadata"], "reportName": planned.cell_id}
            if planned is not None and planned.attachments is not None:
                cell["attachments"] = planned.attachments
            if cell["cell_type"] == "code":
                cell["outputs"] = shown.after(self._outputs.outputs(index))
                cell["execution_count"] = self._counts.get(index)
        notebook["metadata"] = {"title": self.title, "report": self._provenance()}
        return msgspec.json.encode(notebook)

    @property
    def hides_code(self) -> bool:
        """Whether the code of cells is left out."""
        return self._execution.options.output_options.report_code == "hide"

    def _provenance(self) -> dict[str, Any]:
        execution = self._execution
        facts = [
            ("Notebook", self.title),
            ("Notebook id", str(execution.notebook_id)),
            ("Version", execution.notebook_version),
            ("Execution", str(execution.id)),
            ("Started", _moment(self._started)),
            ("Ended", _moment(clock.now())),
            ("Kernel", self._kernel),
        ]
        if self.dataset is not None:
            facts.append(("Dataset", self.dataset))
        return {
            "facts": facts,
            "parameters": [
                (name, msgspec.json.encode(value).decode())
                for name, value in execution.parameters.items()
            ],
            "hideCode": self.hides_code,
        }


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def available() -> bool:
    """Whether this machine can render reports."""
    return importlib.util.find_spec("nbconvert") is not None


class Renderer:
    """A process that renders one report.

    Start it before the report is due: most of its time goes into importing nbconvert, which it
    does while the notebook runs.
    """

    def __init__(self, program: Program) -> None:
        self._program = program

    @classmethod
    async def start(cls) -> Self:
        """Start the process."""
        command = [sys.executable, "-P", "-m", "nbledger_workers.reports.page"]
        return cls(await Program.start(command, env=python_environment(), stdin=True))

    async def render(self, page: ReportPage) -> tuple[bytes, list[str]]:
        """The report as HTML, and what it does not show. Raises :class:`ReportError`."""
        document = await asyncio.to_thread(page.document)
        try:
            async with asyncio.timeout(_RENDER_SECONDS):
                finished = await self._program.finish(document)
        except TimeoutError:
            raise ReportError(f"rendering took longer than {_RENDER_SECONDS:g} seconds") from None
        if finished.status or not finished.output:
            raise ReportError(finished.last_line[:500])
        notes, _, made = finished.output.partition(b"\n")
        return made, msgspec.json.decode(notes, type=list[str])

    async def close(self) -> None:
        """End the process if it is still there."""
        await self._program.end()


def warnings(notes: list[str]) -> list[str]:
    """What a run warns of where its report does not show all; the report itself says all of it."""
    told = [f"The report does not show all: {note}" for note in notes[:_MOST_WARNINGS]]
    if len(notes) > _MOST_WARNINGS:
        told.append(f"The report does not show all: {many(len(notes), 'note')} in it say what.")
    return told


def file_name(notebook_name: str, ending: str) -> str:
    """The name of the file of a notebook's report."""
    words = re.sub(r"[^\w.-]+", "-", notebook_name).strip("-.")[:100]
    return f"{words or 'report'}.{ending}"
