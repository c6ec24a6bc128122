"""Automatic execution: notebooks that run when what they are made of has changed."""

from nbledger_domain.automation.changes import TriggeringChange
from nbledger_domain.automation.settings import (
    AutoExecution,
    AutomationSettings,
    ChangeKind,
    bound_dataset,
)
from nbledger_domain.automation.trigger import (
    SkipReason,
    Trigger,
    execution_id_of,
    trigger_id_of,
)

__all__ = [
    "AutoExecution",
    "AutomationSettings",
    "ChangeKind",
    "SkipReason",
    "Trigger",
    "TriggeringChange",
    "bound_dataset",
    "execution_id_of",
    "trigger_id_of",
]
