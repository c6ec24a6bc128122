"""Something done to many executions, as an aggregate of its own."""

from nbledger_domain.execution_action.aggregate import (
    ActionKind,
    ActionOutcome,
    ExecutionAction,
    PassedOver,
    rerun_id_of,
)

__all__ = ["ActionKind", "ActionOutcome", "ExecutionAction", "PassedOver", "rerun_id_of"]
