"""What a request to execute asks of a notebook, in full."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nbledger_application.commands.execute_notebook import KernelLanguage, RunRequest
from nbledger_domain.cells import Cell, select_range
from nbledger_domain.errors import InvalidInputError
from nbledger_domain.execution import RunOptions
from nbledger_domain.notebook import Notebook
from nbledger_domain.parameters import Language
from nbledger_http.requests import run_bodies
from nbledger_http.requests.parameter_advice import advice, as_warnings
from nbledger_infrastructure import settings


class Asked(msgspec.Struct, frozen=True):
    """What a body asks for, whatever notebook it is for."""

    parameters: dict[str, Any]
    options: RunOptions
    cells: tuple[str | None, str | None] | None = None
    strict: bool = False
    tags: list[str] = []


def asked_of(body: dict[str, Any], limits: settings.Execution) -> Asked:
    """What ``body`` asks for; raises :class:`InvalidInputError`.

    Parameters are taken as they are: what is wrong with them depends on the notebook.
    """
    parameters = body.get("parameters") or {}
    run = run_bodies.run({**body, "parameters": {}}, language=None, limits=limits)
    options = run.options
    if options.timeout == run_bodies.default_timeout(limits):
        # Whatever it is at the moment: the same request stays the same.
        options = msgspec.structs.replace(options, timeout=0.0)
    cells = None if run.whole else (run.start_cell, run.end_cell)
    return Asked(parameters, options, cells, run.strict, run.tags)


def run_request(
    body: dict[str, Any], limits: settings.Execution
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
        return RunRequest(cell_range, run.parameters, run.options, warnings, run.tags)

    return decide


def _of_parameters(
    notebook: Notebook, run: run_bodies.Run, cells: Sequence[Cell], language: Language | None
) -> list[str]:
    """Warnings of parameters that the notebook does not take so; they refuse a strict run."""
    if not notebook.cells:
        return []
    told = advice(notebook.cells, cells, run.parameters, language)
    if run.strict and told.faults:
        raise InvalidInputError(told.faults)
    return as_warnings(told)
