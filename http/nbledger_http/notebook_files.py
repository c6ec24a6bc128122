"""The file of a notebook: as it is, or as an execution ran it."""

import asyncio
from typing import Any

import msgspec

from nbledger_domain.notebook import Notebook
from nbledger_http.access import Access
from nbledger_http.notebook_outputs import executed_outputs, uploaded_outputs
from nbledger_http.services import Services
from nbledger_infrastructure.notebook_files import render_ipynb
from nbledger_projections.execution_results import ResultsView


async def notebook_file(
    services: Services, access: Access, notebook: Notebook, results: ResultsView | None = None
) -> bytes:
    """An .ipynb file with the outputs of the upload, or those in ``results``."""
    scope = access.scope(notebook.id)
    cells = list(notebook.cells)
    outputs: dict[str, list[Any]]
    if results is None:
        outputs = await uploaded_outputs(services.artifacts, scope, cells)
    else:
        outputs = await executed_outputs(services.artifacts, scope, results.cells)
        counts = {cell.cell_id: cell.execution_count for cell in results.cells}
        cells = [
            msgspec.structs.replace(cell, execution_count=counts.get(cell.cell_id))
            for cell in cells
        ]
    # Large notebooks take a while; other requests need not wait for them.
    return await asyncio.to_thread(render_ipynb, cells, notebook.metadata, outputs)
