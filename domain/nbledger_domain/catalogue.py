"""The modules of all aggregates, whose events are known once this is imported."""

from nbledger_domain import (
    automation,
    dataset,
    execution,
    execution_action,
    histories,
    library,
    notebook,
    notices,
    schedule,
    webhook,
)

__all__ = [
    "automation",
    "dataset",
    "execution",
    "execution_action",
    "histories",
    "library",
    "notebook",
    "notices",
    "schedule",
    "webhook",
]
