"""What a request to execute asks of a notebook, in full."""

from collections.abc import Callable, Sequence
from typing import Any

from nbledger_application.commands.execute_notebook import KernelLanguage, RunRequest
from nbledger_domain.cells import Cell, select_range
from nbledger_domain.errors import InvalidInputError
from nbledger_domain.notebook import Notebook
from nbledger_domain.parameters import Language
from nbledger_http.requests import run_bodies
from nbledger_http.requests.parameter_advice import advice, as_warnings
from nbledger_infrastructure import settings


def run_request(
    body: dict[str, Any], limits: settings.Executions
) -> Callable[[Notebook, KernelLanguage], RunRequest]:
    """What ``body`` asks of a notebook, once that and its kernel's language are known.

    The function returned raises :class:`InvalidInputError` with every fault.
    """

    def decide(notebook: Notebook, kernel: KernelLanguage) -> RunRequest:
        # What nobody can tell is taken for Python.
        language = kernel.language if kernel.known else "python"
        run = run_bodies.run(body, language=language, limits=limits)
        cell_range = run.cell_range(notebook.cells)
        cells = (
            notebook.cells
            if cell_range is None
            else select_range(notebook.cells, cell_range.start_cell, cell_range.end_cell)
        )
        warnings = [*run.warnings, *_of_parameters(notebook, run, cells, kernel.language)]
        return RunRequest(cell_range, run.parameters, run.options, warnings)

    return decide


def _of_parameters(
    notebook: Notebook, run: run_bodies.Run, cells: Sequence[Cell], language: Language | None
) -> list[str]:
    """Warnings of parameters that the notebook does not take; they refuse a strict run."""
    if not notebook.cells:
        return []
    told = advice(notebook.cells, cells, run.parameters, language)
    if run.strict and told.faults:
        raise InvalidInputError(told.faults)
    return as_warnings(told)
