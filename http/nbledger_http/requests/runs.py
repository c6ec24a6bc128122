"""What a request to execute asks of a notebook."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from nbledger_application.commands.execute_notebook import KernelLanguage, RunRequest
from nbledger_domain import parameters as notebook_parameters
from nbledger_domain.cells import Cell, select_range
from nbledger_domain.errors import InvalidInputError
from nbledger_domain.execution import (
    CellRange,
    OutputOptions,
    RetryPolicy,
    RetryReason,
    RunOptions,
)
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.languages import Language
from nbledger_domain.vocabulary.priorities import Priority
from nbledger_domain.words import counted
from nbledger_http.requests.cells import CellId
from nbledger_http.requests.declared import FaultReport, read_object
from nbledger_http.requests.json_bodies import escaped
from nbledger_http.requests.parameter_advice import advice, as_warnings
from nbledger_infrastructure import settings

MIN_TIMEOUT = 1.0
"""Seconds; stopping a cell that does not heed it takes longer than that."""

MAX_TAGS = 20
Tag = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"\S", extra={"pattern": "must not be blank"})
]

Tags = Annotated[list[Tag], Meta(max_length=MAX_TAGS)]

# The settings have the bounds.
Seconds = Annotated[float, Meta(extra_json_schema={"minimum": 1})]


class CellRangeBody(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """From one cell to another, both included; an end left out is that of the notebook."""

    start_cell: CellId | None = None
    end_cell: CellId | None = None


class OutputOptionsBody(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """What is kept of the run; with `reportCode` hide the report shows no code."""

    capture_outputs: bool = True
    save_intermediate_results: bool = True
    generate_report: bool = False
    report_code: Literal["show", "hide"] = "show"


class RetryPolicyBody(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """When a run whose cells have begun may begin anew, from its first cell, in a new kernel.

    `maxAttempts` counts the first one too. `retryOn` are the ends that allow another attempt.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    retry_on: Annotated[list[RetryReason], Meta(max_length=10)] = msgspec.field(
        default_factory=lambda: ["worker_lost", "kernel_died"]
    )


class ExecuteNotebook(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """How to run; every member may be left out, and one that is not known is refused.

    Timeouts are in seconds: `timeout` bounds each attempt, `cellTimeout` each cell. Waiting runs
    of priority High come before Normal, and those before Low; the lower ones get a share, so
    that they are not starved. Parameters that the cell tagged `parameters` does not set, or not
    with such a value, are told in `warnings`; with `strictParameters` they are refused. With
    `continueOnError` the cells after a failed one are run, too, and the run ends as Completed.
    Without a `retryPolicy` a run whose cells have begun never begins anew. `tags` are marks of the
    client's choice. With `dryRun` the request is checked in full, and nothing runs.
    """

    execution_mode: Literal["all", "range"] | None = None
    cell_range: CellRangeBody | None = None
    parameters: dict[str, Any] | None = None
    strict_parameters: bool | None = False
    output_options: OutputOptionsBody | None = None
    timeout: Seconds | None = None
    cell_timeout: Seconds | None = None
    priority: Priority | None = "Normal"
    continue_on_error: bool | None = False
    retry_policy: RetryPolicyBody | None = None
    tags: Tags | None = None
    dry_run: bool | None = False


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
    tags: list[str]

    def cell_range(self, cells: Sequence[Cell]) -> CellRange | None:
        """The range to run of ``cells``; an end that was left open is that of the notebook."""
        if self.whole or not cells:
            return None
        return CellRange(
            self.start_cell or cells[0].cell_id,
            self.end_cell or cells[-1].cell_id,
        )


class Asked(msgspec.Struct, frozen=True):
    """What a body asks for, whatever notebook it is for."""

    parameters: dict[str, Any]
    options: RunOptions
    cells: tuple[str | None, str | None] | None = None
    strict: bool = False
    tags: list[str] = []


def asked_of(body: dict[str, Any], limits: settings.Executions) -> Asked:
    """What ``body`` asks for; raises :class:`InvalidInputError`.

    Parameters are taken as they are: what is wrong with them depends on the notebook.
    """
    parameters = body.get("parameters") or {}
    asked = run({**body, "parameters": {}}, language=None, limits=limits)
    options = asked.options
    if options.timeout == default_timeout(limits):
        # Whatever it is at the moment: the same request stays the same.
        options = msgspec.structs.replace(options, timeout=0.0)
    cells = None if asked.whole else (asked.start_cell, asked.end_cell)
    return Asked(parameters, options, cells, asked.strict, asked.tags)


def default_timeout(limits: settings.Executions) -> float:
    """Seconds that a run may take where the request says nothing."""
    return min(limits.default_timeout, limits.max_timeout)


def run_request(
    body: dict[str, Any], limits: settings.Executions
) -> Callable[[Notebook, KernelLanguage], RunRequest]:
    """What ``body`` asks of a notebook, once that and its kernel's language are known.

    The function returned raises :class:`InvalidInputError` with every fault.
    """

    def decide(notebook: Notebook, kernel: KernelLanguage) -> RunRequest:
        # What nobody can tell is taken for Python.
        language = kernel.language if kernel.known else "python"
        asked = run(body, language=language, limits=limits)
        cell_range = asked.cell_range(notebook.cells)
        cells = (
            notebook.cells
            if cell_range is None
            else select_range(notebook.cells, cell_range.start_cell, cell_range.end_cell)
        )
        warnings = [
            *asked.warnings,
            *parameter_warnings(
                notebook, cells, asked.parameters, kernel.language, strict=asked.strict
            ),
        ]
        return RunRequest(cell_range, asked.parameters, asked.options, warnings, asked.tags)

    return decide


def run(body: dict[str, Any], *, language: Language | None, limits: settings.Executions) -> Run:
    """Check the body of an execute. Raises :class:`InvalidInputError` with every fault.

    ``language`` is that of the kernel; ``None`` is one that parameters cannot be written in.
    """
    report = FaultReport()
    asked = read_object(ExecuteNotebook, body, report)
    cell_range = asked.cell_range or CellRangeBody()
    mode = asked.execution_mode or ("all" if asked.cell_range is None else "range")
    if asked.cell_range is not None and mode == "all":
        report.warnings.append("/cellRange: ignored, as executionMode is 'all'")
    elif asked.cell_range is None and mode == "range":
        report.fault("/cellRange", "is required when executionMode is 'range'")
    parameters = asked.parameters or {}
    check_parameters(parameters, language, report)
    check_timeout(asked.timeout, "/timeout", limits, report)
    check_timeout(asked.cell_timeout, "/cellTimeout", limits, report)
    report.check()
    options = RunOptions(
        timeout=asked.timeout or default_timeout(limits),
        cell_timeout=asked.cell_timeout,
        priority=asked.priority or "Normal",
        continue_on_error=asked.continue_on_error or False,
        retry_policy=retry_policy(asked.retry_policy),
        output_options=output_options(asked.output_options or OutputOptionsBody()),
    )
    return Run(
        mode == "all",
        cell_range.start_cell,
        cell_range.end_cell,
        parameters,
        asked.strict_parameters or False,
        options,
        report.warnings,
        tags(asked.tags),
    )


def tags(asked: Sequence[str] | None) -> list[str]:
    """Tags as they are kept: without blanks around them, and each once."""
    return list(dict.fromkeys(tag.strip() for tag in asked or ()))


def check_parameters(
    parameters: dict[str, Any], language: Language | None, report: FaultReport
) -> None:
    """Report what is wrong with parameters for a kernel of this language."""
    for fault in notebook_parameters.validate(parameters, language or "python"):
        report.fault(f"/parameters/{escaped(fault.name)}", fault.reason)
    if parameters and language is None:
        report.fault("/parameters", "can be given to notebooks in Python, R and Scala only")


def check_timeout(
    seconds: float | None, pointer: str, limits: settings.Executions, report: FaultReport
) -> None:
    """Report a timeout that is too short or too long."""
    lowest = min(MIN_TIMEOUT, limits.max_timeout)
    if seconds is not None and seconds < lowest:
        report.fault(pointer, f"must be at least {counted(lowest, 'second')}")
    elif seconds is not None and seconds > limits.max_timeout:
        report.fault(pointer, f"must be at most {counted(limits.max_timeout, 'second')}")


def output_options(asked: OutputOptionsBody) -> OutputOptions:
    """What is to be kept of a run."""
    return OutputOptions(
        capture_outputs=asked.capture_outputs,
        save_intermediate_results=asked.save_intermediate_results,
        generate_report=asked.generate_report,
        report_code=UNSET if asked.report_code == "show" else asked.report_code,
    )


def retry_policy(asked: RetryPolicyBody | None) -> RetryPolicy | None:
    """When a run may begin anew."""
    if asked is None:
        return None
    return RetryPolicy(max_attempts=asked.max_attempts, retry_on=tuple(asked.retry_on))


def parameter_warnings(
    notebook: Notebook,
    cells: Sequence[Cell],
    parameters: dict[str, Any],
    language: Language | None,
    *,
    strict: bool,
) -> list[str]:
    """Warnings of parameters that the notebook does not take so; they refuse a strict run."""
    if not notebook.cells:
        return []
    told = advice(notebook.cells, cells, parameters, language)
    if strict and told.faults:
        raise InvalidInputError(told.faults)
    return as_warnings(told)
