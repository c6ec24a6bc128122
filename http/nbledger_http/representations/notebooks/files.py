"""The file of a notebook: as it is, or as an execution ran it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nbledger_application.caller import Caller
from nbledger_domain import parameters
from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.languages import DEFAULT_KERNEL_TYPE, LANGUAGES
from nbledger_http.representations.notebooks.outputs import (
    executed_outputs,
    missing,
    uploaded_outputs,
    widgets,
)
from nbledger_http.requests.services import Services
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.notebooks.files import render_ipynb
from nbledger_infrastructure.notebooks.kernelspecs import kernel_type_of, with_kernelspec
from nbledger_projections.read_models.executions.result_folding import CellOutputs
from nbledger_projections.read_models.executions.results import ResultsView

INJECTED_ID = "injected-parameters"


async def notebook_file(
    services: Services, access: Caller, notebook: Notebook, results: ResultsView | None = None
) -> bytes:
    """An .ipynb file with the outputs of the upload, or as the execution of ``results`` ran it.

    What ran also has the cell in which its parameters were set.
    """
    async with services.renderings:
        return await _notebook_file(services, access, notebook, results)


async def _notebook_file(
    services: Services, access: Caller, notebook: Notebook, results: ResultsView | None
) -> bytes:
    scope = access.scope(notebook.id)
    cells = list(notebook.cells)
    outputs: dict[str, list[Any]]
    if results is None:
        outputs = await uploaded_outputs(services.artifacts, scope, cells)
    else:
        outputs = await executed_outputs(services.artifacts, scope, results.cells)
        told = {cell.cell_id: cell for cell in results.cells}
        cells = [_as_executed(cell, told.get(cell.cell_id)) for cell in cells]
        loaded = await aggregates.load(services.store, Execution, results.execution_id)
        if loaded is not None and loaded.aggregate.parameters:
            cells = _with_parameters(cells, loaded.aggregate)
    # Large notebooks take a while; other requests need not wait for them.
    metadata = _metadata(notebook, services.settings.worker.kernels)
    if results is not None:
        # What was uploaded shows widgets of another run.
        metadata = {name: value for name, value in metadata.items() if name != "widgets"}
        shown = await widgets(services.artifacts, scope, results.widgets)
        if shown is not None:
            metadata["widgets"] = shown
    return await asyncio.to_thread(render_ipynb, cells, metadata, outputs)


def _as_executed(cell: Cell, told: CellOutputs | None) -> Cell:
    """The cell with its number, and in its metadata what of its outputs is not kept."""
    count = None if told is None else told.execution_count
    cell = msgspec.structs.replace(cell, execution_count=count)
    gap = None if told is None else missing(told)
    if gap is None:
        return cell
    note = {"notKept": msgspec.to_builtins(gap)}
    return msgspec.structs.replace(cell, metadata={**cell.metadata, "nbledger": note})


def _metadata(notebook: Notebook, kernels: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of the file, by which an upload finds the kernel type again.

    What was uploaded goes back as it came, unless it would be run by another kernel then.
    """
    metadata, kernel_type = notebook.metadata, notebook.kernel_type
    named = kernel_type_of(metadata, kernels)
    if notebook.uploaded is None:
        complete = "kernelspec" in metadata and named == kernel_type
    else:
        complete = "kernelspec" in metadata or (named or DEFAULT_KERNEL_TYPE) == kernel_type
    return metadata if complete else with_kernelspec(metadata, kernel_type, kernels)


def _with_parameters(cells: Sequence[Cell], execution: Execution) -> list[Cell]:
    language = LANGUAGES.get(execution.kernel_type, "python")
    try:
        source = parameters.assignments(language, execution.parameters)
    except ValueError:
        # The rules were others when it ran.
        source = f"# Parameters, which cannot be written here: {', '.join(execution.parameters)}"
    by_id = {cell.cell_id: cell for cell in cells}
    injected_id = INJECTED_ID if INJECTED_ID not in by_id else f"{INJECTED_ID}-{len(cells)}"
    placed = parameters.inject(
        [{"id": cell.cell_id, "metadata": cell.metadata} for cell in cells],
        source,
        cell_id=injected_id,
    )
    injected = parameters.find_tagged(placed, parameters.INJECTED_TAG)
    return [
        Cell(cell_id=entry["id"], cell_type="code", source=source, metadata=entry["metadata"])
        if place == injected
        else by_id[entry["id"]]
        for place, entry in enumerate(placed)
    ]
