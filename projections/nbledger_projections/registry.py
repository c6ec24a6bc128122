"""Every projection there is."""

from nbledger_projections.machinery.runner import Projection
from nbledger_projections.read_models.dataset_details import DatasetDetailsProjection
from nbledger_projections.read_models.executions.results import ExecutionResultsProjection
from nbledger_projections.read_models.executions.status import ExecutionStatusProjection
from nbledger_projections.read_models.library_details import LibraryDetailsProjection
from nbledger_projections.read_models.notebooks.details import NotebookDetailsProjection
from nbledger_projections.read_models.notebooks.listing import NotebookListProjection

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
