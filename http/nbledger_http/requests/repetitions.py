"""What a request to run an execution again asks for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nbledger_application.commands.execute_notebook import KernelLanguage, RunRequest
from nbledger_application.commands.rerun_execution import Change, Repetition
from nbledger_domain.cells import Cell
from nbledger_domain.execution import RunOptions
from nbledger_domain.execution.repetition import RepetitionKind
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.languages import Language
from nbledger_domain.vocabulary.priorities import Priority
from nbledger_http.requests import runs
from nbledger_http.requests.declared import FaultReport, read_object
from nbledger_http.requests.runs import MAX_TAGS, OutputOptionsBody, RetryPolicyBody, Seconds, Tag
from nbledger_infrastructure import settings

Which = Literal["same", "newest"]


class _AsBefore(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """What both take of a run: a member left out is as it was, null as an execute has it."""

    parameters: dict[str, Any] | None = None
    parameter_mode: Literal["merge", "replace"] = "merge"
    strict_parameters: bool = False
    output_options: OutputOptionsBody | UnsetType | None = UNSET
    timeout: Seconds | UnsetType | None = UNSET
    cell_timeout: Seconds | UnsetType | None = UNSET
    priority: Priority | UnsetType | None = UNSET
    continue_on_error: bool | UnsetType | None = UNSET
    retry_policy: RetryPolicyBody | UnsetType | None = UNSET
    tags: Annotated[list[Tag], Meta(max_length=MAX_TAGS)] | UnsetType | None = UNSET
    dry_run: bool = False


class RerunExecution(_AsBefore, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """How to run it again; without any member exactly as before.

    `version` is the notebook's: with `same` its cells, settings and input files are those of the
    run before. With `datasets` same, the datasets that the run before was given come in the same
    versions. `parameters` are put over those of the run before, or with `parameterMode` replace
    in their place. The other members are those of an execute: one that is left out is as it was in
    the run before, null is what an execute without it has.
    """

    version: Which = "same"
    datasets: Which = "same"


class RepairExecution(_AsBefore, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """How to repair it; without any member: all its cells, with what there is now.

    The members are those of a rerun, but `version` and `datasets` are newest unless same is asked
    for. With `cells` fromFailed the run begins with the first cell that failed, in a fresh kernel:
    what the cells before it set is not there.
    """

    version: Which = "newest"
    datasets: Which = "newest"
    cells: Literal["all", "fromFailed"] = "all"


_BODIES: Mapping[RepetitionKind, type[RerunExecution | RepairExecution]] = {
    "rerun": RerunExecution,
    "repair": RepairExecution,
}


def asked_of(
    kind: RepetitionKind, body: dict[str, Any], limits: settings.Executions
) -> RerunExecution | RepairExecution:
    """What ``body`` asks for, whatever run it is for; raises :class:`InvalidInputError`."""
    report = FaultReport()
    asked = _read(kind, body, limits, report)
    report.check()
    return asked


def repetition(kind: RepetitionKind, body: dict[str, Any]) -> Repetition:
    """What is to be run again; what is wrong with ``body`` is told by :func:`change_of`."""
    asked = read_object(_BODIES[kind], body, FaultReport())
    cells = asked.cells if isinstance(asked, RepairExecution) else "all"
    return Repetition(kind=kind, version=asked.version, datasets=asked.datasets, cells=cells)


def change_of(kind: RepetitionKind, body: dict[str, Any], limits: settings.Executions) -> Change:
    """What is to be otherwise than in the run before.

    The function returned raises :class:`InvalidInputError` with every fault.
    """

    def change(
        notebook: Notebook, cells: Sequence[Cell], kernel: KernelLanguage, run: RunRequest
    ) -> RunRequest:
        report = FaultReport()
        asked = _read(kind, body, limits, report)
        parameters = _parameters(asked, run)
        # What nobody can tell is taken for Python.
        language: Language | None = kernel.language if kernel.known else "python"
        runs.check_parameters(parameters, language, report)
        report.check()
        warnings = [each for each in run.warnings if not _outdated(each, asked)]
        warnings += runs.parameter_warnings(
            notebook, cells, parameters, kernel.language, strict=asked.strict_parameters
        )
        return RunRequest(
            run.cell_range,
            parameters,
            _options(asked, run.options, limits),
            warnings,
            run.tags if asked.tags is UNSET else runs.tags(asked.tags),
        )

    return change


def _read(
    kind: RepetitionKind,
    body: dict[str, Any],
    limits: settings.Executions,
    report: FaultReport,
) -> RerunExecution | RepairExecution:
    asked = read_object(_BODIES[kind], body, report)
    timeouts = {"/timeout": asked.timeout, "/cellTimeout": asked.cell_timeout}
    for pointer, seconds in timeouts.items():
        if seconds is not UNSET:
            runs.check_timeout(seconds, pointer, limits, report)
    return asked


def _parameters(asked: RerunExecution | RepairExecution, run: RunRequest) -> dict[str, Any]:
    given = asked.parameters or {}
    return given if asked.parameter_mode == "replace" else {**run.parameters, **given}


def _outdated(warning: str, asked: RerunExecution | RepairExecution) -> bool:
    """Whether it is of a timeout that another one was asked for in the place of."""
    return warning.startswith("/timeout:") and asked.timeout is not UNSET


def _options(
    asked: RerunExecution | RepairExecution, before: RunOptions, limits: settings.Executions
) -> RunOptions:
    made: Mapping[str, Callable[[Any], Any]] = {
        "timeout": lambda seconds: seconds or runs.default_timeout(limits),
        "cell_timeout": lambda seconds: seconds,
        "priority": lambda priority: priority or "Normal",
        "continue_on_error": bool,
        "retry_policy": runs.retry_policy,
        "output_options": lambda options: runs.output_options(options or OutputOptionsBody()),
    }
    given = {name: getattr(asked, name) for name in made}
    return msgspec.structs.replace(
        before,
        **{name: made[name](value) for name, value in given.items() if value is not UNSET},
    )
