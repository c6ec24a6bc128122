"""How a cell ended, from what its kernel replied and what was done to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nbledger_workers.kernel.outputs.errors import ErrorText, clean, error_text
from nbledger_workers.kernel.protocol import CellStatus, Outcome
from nbledger_workers.kernel.resources.limits import ERROR_NAMES, LIMIT_OUTCOMES
from nbledger_workers.kernel.supervising.stop import Stop

NO_INPUT: Final = ErrorText(
    "StdinNotImplementedError", "the cell asked for input, and there is nobody to give it", []
)


def stopped_as(stop: Stop) -> CellStatus:
    """The status of a cell that had to stop: without a reason its own time was up."""
    if stop.outcome in LIMIT_OUTCOMES:
        return CellStatus.ERROR
    return CellStatus.CANCELLED if stop.outcome is Outcome.CANCELLED else CellStatus.TIMED_OUT


def stopped(
    forced: CellStatus, stop: Stop, reply: Mapping[str, Any], shown: Sequence[ErrorText]
) -> tuple[CellStatus, ErrorText | None]:
    """Status and error of a cell that was `forced` to its end; `shown` are its error outputs."""
    if forced is CellStatus.ERROR and stop.outcome is not None:
        return forced, ErrorText(ERROR_NAMES[stop.outcome], stop.detail, [])
    return forced, _told(reply, shown)


def ended(
    task: asyncio.Task[None], reply: Mapping[str, Any], shown: Sequence[ErrorText]
) -> tuple[CellStatus, ErrorText | None]:
    """Status and error of a cell that ended by itself on a kernel that lives."""
    if reply:
        told = _told(reply, shown)
        if told is None and reply.get("status") != "ok":
            told = ErrorText("Aborted", "the kernel aborted the request", [])
        return (CellStatus.SUCCESS if told is None else CellStatus.ERROR), told
    failure = None if task.cancelled() else task.exception()
    if failure is None:
        return CellStatus.ERROR, ErrorText("NoReply", "the kernel gave no reply", [])
    return CellStatus.ERROR, ErrorText(type(failure).__name__, clean(str(failure)), [])


def _told(reply: Mapping[str, Any], shown: Sequence[ErrorText]) -> ErrorText | None:
    """The error of a reply as the cell shows it, where its reply tells of none that it shows.

    ipykernel's reply has no name for an error of a display: of a `__repr__` that raises.
    """
    if reply.get("status") != "error":
        return None
    error = error_text(reply)
    shows = {(each.name, each.value) for each in shown}
    return error if not shown or (error.name, error.value) in shows else shown[-1]
