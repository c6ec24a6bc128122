"""The HTML report of a run: one file that loads nothing from anywhere, made by nbconvert."""

import asyncio
import contextlib
import importlib.util
import re
import sys
from typing import Any, Final, Self

import msgspec

from nbledger_domain.execution import Representation
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.artifacts import ArtifactStore, Scope
from nbledger_workers.kernel.pair import python_environment
from nbledger_workers.kernel.protocol import CellFinished, OutputsUpdated
from nbledger_workers.planning import Plan

_RENDER_SECONDS: Final = 120.0
_CLOSE_SECONDS: Final = 5.0
_MAX_OUTPUT_BYTES: Final = 50_000_000
"""Outputs beyond this are left out of a report, which a browser could not show anyway."""


class ReportError(Exception):
    """The report could not be rendered; the message is the program's last line."""


class Page:
    """What goes into a report, gathered while the notebook runs."""

    def __init__(self, plan: Plan, notebook: Notebook) -> None:
        self._plan = plan
        self._title = notebook.name
        self._bytes = 0
        self._outputs: dict[int, list[bytes]] = {}
        self._counts: dict[int, int | None] = {}

    def put(self, message: CellFinished | OutputsUpdated) -> None:
        """Take the outputs of a cell."""
        size = sum(map(len, message.outputs)) - sum(map(len, self._outputs.get(message.index, [])))
        if self._bytes + size > _MAX_OUTPUT_BYTES:
            return
        self._bytes += size
        self._outputs[message.index] = message.outputs
        if isinstance(message, CellFinished):
            self._counts[message.index] = message.execution_count

    def document(self) -> bytes:
        """The notebook with its outputs, as nbformat 4 JSON."""
        notebook: dict[str, Any] = msgspec.json.decode(self._plan.notebook)
        for index, cell in enumerate(notebook["cells"]):
            if cell["cell_type"] == "code":
                cell["outputs"] = [
                    msgspec.json.decode(output) for output in self._outputs.get(index, [])
                ]
                cell["execution_count"] = self._counts.get(index)
        notebook["metadata"] = {"title": self._title}
        return msgspec.json.encode(notebook)


def available() -> bool:
    """Whether this machine can render reports."""
    return importlib.util.find_spec("nbconvert") is not None


class Renderer:
    """A process that renders one report.

    Start it before the report is due: most of its time goes into importing nbconvert, which it
    does while the notebook runs.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        """Start the process."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "nbledger_workers.report_page",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=python_environment(),
            )
        )

    async def render(self, page: Page) -> bytes:
        """The report as HTML. Raises :class:`ReportError`."""
        document = await asyncio.to_thread(page.document)
        try:
            async with asyncio.timeout(_RENDER_SECONDS):
                content, errors = await self._process.communicate(document)
        except TimeoutError:
            raise ReportError(f"rendering took longer than {_RENDER_SECONDS:g} seconds") from None
        if self._process.returncode or not content:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            raise ReportError(lines[-1][:500] if lines else f"status {self._process.returncode}")
        return content

    async def close(self) -> None:
        """End the process if it is still there."""
        process = self._process
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        # Reads what is left in the pipes, so that they are closed as well.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await process.communicate()


async def store(artifacts: ArtifactStore, scope: Scope, content: bytes) -> Representation:
    """Keep a rendered report."""
    return Representation("text/html", await artifacts.put(scope, content), len(content))


def file_name(notebook_name: str) -> str:
    """The name of the file of a notebook's report."""
    words = re.sub(r"[^\w.-]+", "-", notebook_name).strip("-.")[:100]
    return f"{words or 'report'}.html"
