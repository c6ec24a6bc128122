"""What of an ended execution is there to do again."""

from typing import Final, Literal

from nbledger_domain.execution.aggregate import Execution
from nbledger_domain.execution.values import CellStatus, ExecutionStatus

RepetitionKind = Literal["rerun", "repair"]

_FAILED: Final = frozenset(
    {CellStatus.ERROR, CellStatus.TIMED_OUT, CellStatus.CANCELLED, CellStatus.RUNNING}
)
"""Of an ended run; the cell that ran as the run was ended is still told to be running."""


def first_failed(execution: Execution) -> str | None:
    """The first cell that has failed, else the first code cell that has not succeeded.

    ``None`` where all have succeeded. A run that failed before its first cell has its first one.
    """
    code = [cell.cell_id for cell in execution.cells if cell.cell_type == "code"]
    failed = (each for each in code if execution.cell_statuses[each] in _FAILED)
    left = (each for each in code if execution.cell_statuses[each] is not CellStatus.SUCCESS)
    return next(failed, None) or next(left, None)


def has_failed(execution: Execution) -> bool:
    """Whether there is anything to repair: it did not complete, or one of its cells failed."""
    return execution.status is not ExecutionStatus.COMPLETED or any(
        status in _FAILED for status in execution.cell_statuses.values()
    )
