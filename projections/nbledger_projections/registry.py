"""Every projection there is."""

from nbledger_projections.dataset_details import DatasetDetailsProjection
from nbledger_projections.execution_results import ExecutionResultsProjection
from nbledger_projections.execution_status import ExecutionStatusProjection
from nbledger_projections.library_details import LibraryDetailsProjection
from nbledger_projections.notebook_details import NotebookDetailsProjection
from nbledger_projections.notebook_list import NotebookListProjection
from nbledger_projections.runner import Projection

_ALL: tuple[type[Projection], ...] = (
    NotebookDetailsProjection,
    NotebookListProjection,
    ExecutionStatusProjection,
    ExecutionResultsProjection,
    DatasetDetailsProjection,
    LibraryDetailsProjection,
)

PROJECTIONS = {projection.name: projection for projection in _ALL}
"""By name; a new one has nothing in memory."""
