"""The execution aggregate: one run of a notebook, from the request to its end."""

from nbledger_domain.execution.aggregate import Execution
from nbledger_domain.execution.events import TERMINAL_EVENTS
from nbledger_domain.execution.values import (
    REQUESTED_CAUSE,
    ArtifactKind,
    Cause,
    CauseKind,
    CellError,
    CellRange,
    CellStatus,
    EnvironmentStage,
    ExecutionStatus,
    GivenDataset,
    KernelFacts,
    Output,
    OutputOptions,
    Phase,
    PlannedCell,
    Representation,
    Resources,
    RetryPolicy,
    RetryReason,
    RunOptions,
)
from nbledger_domain.vocabulary.priorities import PRIORITIES, Priority
from nbledger_domain.vocabulary.termination import TerminationCode

__all__ = [
    "PRIORITIES",
    "REQUESTED_CAUSE",
    "TERMINAL_EVENTS",
    "ArtifactKind",
    "Cause",
    "CauseKind",
    "CellError",
    "CellRange",
    "CellStatus",
    "EnvironmentStage",
    "Execution",
    "ExecutionStatus",
    "GivenDataset",
    "KernelFacts",
    "Output",
    "OutputOptions",
    "Phase",
    "PlannedCell",
    "Priority",
    "Representation",
    "Resources",
    "RetryPolicy",
    "RetryReason",
    "RunOptions",
    "TerminationCode",
]
