"""Every read model there is."""

from typing import Any

from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.read_models import (
    dataset_details,
    execution_actions,
    library_details,
    notices,
    schedules,
    triggers,
    webhooks,
)
from nbledger_projections.read_models.executions import results, status
from nbledger_projections.read_models.notebooks import details, listing

_MODULES = (
    details,
    listing,
    status,
    results,
    dataset_details,
    library_details,
    schedules,
    execution_actions,
    triggers,
    notices,
    webhooks,
)

READ_MODELS: dict[str, ReadModel[Any]] = {module.MODEL.name: module.MODEL for module in _MODULES}
"""By name."""
