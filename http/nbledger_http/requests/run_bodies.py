"""The body of a request to execute."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nbledger_domain import parameters as notebook_parameters
from nbledger_domain.cells import Cell
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.execution import (
    CellRange,
    OutputOptions,
    RetryPolicy,
    RetryReason,
    RunOptions,
)
from nbledger_domain.vocabulary.cell_ids import CELL_ID_PATTERN
from nbledger_domain.vocabulary.languages import Language
from nbledger_domain.vocabulary.priorities import Priority
from nbledger_domain.words import counted
from nbledger_http.requests.validation import Members, escaped
from nbledger_infrastructure import settings

CellId = Annotated[str, Meta(pattern=CELL_ID_PATTERN)]


MaxAttempts = Annotated[int, Meta(ge=1, le=10)]

MIN_TIMEOUT = 1.0
"""Seconds; stopping a cell that does not heed it takes longer than that."""

MAX_REASONS = 10


class Run(msgspec.Struct, frozen=True):
    """A checked request to execute; what of it depends on the notebook is checked later.

    A ``strict`` one takes no parameters that the notebook does not take.
    """

    whole: bool
    start_cell: str | None
    end_cell: str | None
    parameters: dict[str, Any]
    strict: bool
    options: RunOptions
    warnings: list[str]

    def cell_range(self, cells: Sequence[Cell]) -> CellRange | None:
        """The range to run of ``cells``; an end that was left open is that of the notebook."""
        if self.whole or not cells:
            return None
        return CellRange(
            self.start_cell or cells[0].cell_id,
            self.end_cell or cells[-1].cell_id,
        )


def run(
    body: dict[str, Any],
    *,
    language: Language | None,
    limits: settings.Executions,
) -> Run:
    """Check the body of an execute. Raises :class:`InvalidInputError` with every fault.

    ``language`` is that of the kernel; ``None`` is one that parameters cannot be written in.
    """
    faults: list[Fault] = []
    warnings: list[str] = []
    members = Members(body, "", faults)
    cell_range = members.inner("cellRange")
    default_mode = "all" if cell_range is None else "range"
    mode: str = members.take("executionMode", Literal["all", "range"], default_mode)
    start_cell: str | None = None
    end_cell: str | None = None
    if cell_range is not None:
        start_cell = cell_range.take("startCell", CellId)
        end_cell = cell_range.take("endCell", CellId)
        cell_range.refuse_unknown()
        if mode == "all":
            warnings.append("/cellRange: ignored, as executionMode is 'all'")
    elif mode == "range":
        members.fault("cellRange", "is required when executionMode is 'range'")
    parameters: dict[str, Any] = members.take("parameters", dict[str, Any], {})
    members.faults.extend(
        Fault(f"/parameters/{escaped(fault.name)}", fault.reason)
        for fault in notebook_parameters.validate(parameters, language or "python")
    )
    if parameters and language is None:
        members.fault("parameters", "can be given to notebooks in Python, R and Scala only")
    strict: bool = members.take("strictParameters", bool, False)
    timeout = _timeout(members, "timeout", limits)
    options = RunOptions(
        timeout=timeout or min(limits.default_timeout, limits.max_timeout),
        cell_timeout=_timeout(members, "cellTimeout", limits),
        priority=members.take("priority", Priority, "Normal"),
        continue_on_error=members.take("continueOnError", bool, False),
        retry_policy=_retry_policy(members.inner("retryPolicy")),
        output_options=_output_options(members.inner("outputOptions")),
    )
    # What is mistyped must not run otherwise than it was meant.
    members.refuse_unknown()
    if faults:
        raise InvalidInputError(faults)
    return Run(mode == "all", start_cell, end_cell, parameters, strict, options, warnings)


def _retry_policy(members: Members | None) -> RetryPolicy | None:
    if members is None:
        return None
    default = RetryPolicy()
    attempts = members.take("maxAttempts", MaxAttempts, default.max_attempts)
    reasons = members.items("retryOn", RetryReason, limit=MAX_REASONS)
    members.refuse_unknown()
    return RetryPolicy(
        max_attempts=attempts, retry_on=default.retry_on if reasons is None else tuple(reasons)
    )


def _output_options(members: Members | None) -> OutputOptions:
    default = OutputOptions()
    if members is None:
        return default
    found = OutputOptions(
        capture_outputs=members.take("captureOutputs", bool, default.capture_outputs),
        save_intermediate_results=members.take(
            "saveIntermediateResults", bool, default.save_intermediate_results
        ),
        generate_report=members.take("generateReport", bool, default.generate_report),
        report_code=members.take("reportCode", Literal["show", "hide"], default.report_code),
    )
    members.refuse_unknown()
    return found


def _timeout(members: Members, name: str, limits: settings.Executions) -> float | None:
    value: float | None = members.take(name, float)
    lowest = min(MIN_TIMEOUT, limits.max_timeout)
    if value is not None and value < lowest:
        members.fault(name, f"must be at least {counted(lowest, 'second')}")
    elif value is not None and value > limits.max_timeout:
        members.fault(name, f"must be at most {counted(limits.max_timeout, 'second')}")
    return value
