"""Ask for a run of a notebook."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from nbledger_application import repository
from nbledger_domain.cells import Cell, select_range
from nbledger_domain.errors import (
    InvalidInputError,
    KernelUnavailableError,
    NothingToExecuteError,
)
from nbledger_domain.execution import Execution, PlannedCell
from nbledger_domain.notebook import Notebook
from nbledger_domain.parameters import Language
from nbledger_http import requests
from nbledger_http.access import Access
from nbledger_http.commands.load_notebook import load_notebook
from nbledger_http.parameter_advice import advice, as_warnings
from nbledger_infrastructure import settings, worker_registry
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.database import Pool
from nbledger_infrastructure.event_store import AppendResult, EventStore, RecordConflictError
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.worker_registry import KernelOffer
from nbledger_projections import deletions

GUARDED_ATTEMPTS = 3
LANGUAGES: Mapping[str, Language] = {"python": "python", "r": "r", "scala": "scala"}
"""Languages of kernels, as their kernelspecs write them in lower case."""


async def execute_notebook(
    store: EventStore,
    pool: Pool,
    access: Access,
    notebook_id: UUID,
    body: dict[str, Any],
    *,
    limits: settings.Execution,
) -> tuple[UUID, AppendResult, list[str]]:
    """Record the request; returns the execution's id, its place, warnings.

    The warnings are recorded with it, but for that of an absent worker, which holds only now.

    Raises :class:`NotebookNotFoundError`, :class:`InvalidInputError`,
    :class:`NothingToExecuteError` and :class:`KernelUnavailableError`.
    """
    execution_id = new_id()
    for attempt in range(GUARDED_ATTEMPTS + 1):
        position = await deletions.last_position(pool, notebook_id)
        notebook = (await load_notebook(store, access, notebook_id)).aggregate
        offers = await worker_registry.offers(pool)
        known = notebook.kernel_type in {*requests.LANGUAGES, *offers}
        language = _language(notebook.kernel_type, offers) if known else None
        # What nobody can tell is taken for Python.
        run = requests.run(body, language=language if known else "python", limits=limits)
        if not notebook.cells:
            raise NothingToExecuteError(notebook_id)
        cell_range = run.cell_range(notebook.cells)
        cells = (
            notebook.cells
            if cell_range is None
            else select_range(notebook.cells, cell_range.start_cell, cell_range.end_cell)
        )
        warnings = [*run.warnings, *_of_parameters(notebook, run, cells, language)]
        of_now = _without_worker(offers, notebook.kernel_type, queue=limits.queue_without_worker)
        execution = Execution.request(
            execution_id,
            notebook_id=notebook_id,
            notebook_version=notebook.notebook_version,
            notebook_stream_version=notebook.version,
            kernel_type=notebook.kernel_type,
            cells=[PlannedCell(cell.cell_id, cell.cell_type) for cell in cells],
            parameters=run.parameters,
            options=run.options,
            requested_by=access.token.name,
            at=now(),
            cell_range=cell_range,
            warnings=warnings,
        )
        # A deletion may have come in between. Runs of the same notebook that record a lot
        # would defeat the guard for ever, so the last attempt goes without: what slips
        # through is cancelled by the deletions reactor.
        guarded = attempt < GUARDED_ATTEMPTS
        try:
            appended = await repository.save(
                store,
                execution,
                access.stream(execution_id, notebook_id),
                access.metadata(),
                subject_unchanged_since=position if guarded else None,
            )
        except RecordConflictError:
            if not guarded:
                raise
            continue
        assert appended is not None  # noqa: S101 (a request is an event)
        return execution_id, appended, [*warnings, *of_now]
    raise AssertionError("unreachable")


def _language(kernel_type: str, offers: Mapping[str, KernelOffer]) -> Language | None:
    """The language that parameters are written in; ``None`` for one that they cannot be."""
    if kernel_type in requests.LANGUAGES:
        return requests.LANGUAGES[kernel_type]
    return LANGUAGES.get(offers[kernel_type].language.lower())


def _of_parameters(
    notebook: Notebook, run: requests.Run, cells: Sequence[Cell], language: Language | None
) -> list[str]:
    """Warnings of parameters that the notebook does not take; they refuse a strict run."""
    told = advice(notebook.cells, cells, run.parameters, language)
    if run.strict and told.faults:
        raise InvalidInputError(told.faults)
    return as_warnings(told)


def _without_worker(
    offers: Mapping[str, KernelOffer], kernel_type: str, *, queue: bool
) -> list[str]:
    """What to say where no worker could run it now; refuses it unless it is to ``queue``."""
    if kernel_type in offers:
        return []
    if not queue:
        raise KernelUnavailableError(kernel_type, sorted(offers))
    return [f"no live worker offers the kernel type {kernel_type!r}; the execution waits for one"]
