"""Types of the API: execution bodies. Made by `make client-models`."""

from typing import Any, TypedDict

import msgspec

from nbledger_client.models.common import RetryPolicyBody


class CellRangeBody(msgspec.Struct, rename="camel", kw_only=True):
    """From one cell to another, both included; an end left out is that of the notebook."""

    start_cell: str | msgspec.UnsetType | None = msgspec.UNSET
    end_cell: str | msgspec.UnsetType | None = msgspec.UNSET


class OutputOptionsBody(msgspec.Struct, rename="camel", kw_only=True):
    """What is kept of the run; with `reportCode` hide the report shows no code."""

    capture_outputs: bool | msgspec.UnsetType = msgspec.UNSET
    save_intermediate_results: bool | msgspec.UnsetType = msgspec.UNSET
    generate_report: bool | msgspec.UnsetType = msgspec.UNSET
    report_code: str | msgspec.UnsetType = msgspec.UNSET


class ExecuteNotebook(msgspec.Struct, rename="camel", kw_only=True):
    """How to run; every member may be left out, and one that is not known is refused.

    Timeouts are in seconds: `timeout` bounds each attempt, `cellTimeout` each cell. Waiting runs
    of priority High come before Normal, and those before Low; the lower ones get a share, so that
    they are not starved. Parameters that the cell tagged `parameters` does not set, or not with
    such a value, are told in `warnings`; with `strictParameters` they are refused. With
    `continueOnError` the cells after a failed one are run, too, and the run ends as Completed.
    Without a `retryPolicy` a run whose cells have begun never begins anew. `tags` are marks of the
    client's choice. With `dryRun` the request is checked in full, and nothing runs.
    """

    execution_mode: str | msgspec.UnsetType | None = msgspec.UNSET
    cell_range: CellRangeBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    parameters: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    strict_parameters: bool | msgspec.UnsetType | None = msgspec.UNSET
    output_options: OutputOptionsBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    cell_timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    priority: str | msgspec.UnsetType | None = msgspec.UNSET
    continue_on_error: bool | msgspec.UnsetType | None = msgspec.UNSET
    retry_policy: RetryPolicyBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    dry_run: bool | msgspec.UnsetType | None = msgspec.UNSET


class RepairExecution(msgspec.Struct, rename="camel", kw_only=True):
    """How to repair it; without any member: all its cells, with what there is now.

    The members are those of a rerun, but `version` and `datasets` are newest unless same is asked
    for. With `cells` fromFailed the run begins with the first cell that failed, in a fresh kernel:
    what the cells before it set is not there.
    """

    parameters: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    parameter_mode: str | msgspec.UnsetType = msgspec.UNSET
    strict_parameters: bool | msgspec.UnsetType = msgspec.UNSET
    output_options: OutputOptionsBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    cell_timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    priority: str | msgspec.UnsetType | None = msgspec.UNSET
    continue_on_error: bool | msgspec.UnsetType | None = msgspec.UNSET
    retry_policy: RetryPolicyBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    dry_run: bool | msgspec.UnsetType = msgspec.UNSET
    version: str | msgspec.UnsetType = msgspec.UNSET
    datasets: str | msgspec.UnsetType = msgspec.UNSET
    cells: str | msgspec.UnsetType = msgspec.UNSET


class RerunExecution(msgspec.Struct, rename="camel", kw_only=True):
    """How to run it again; without any member exactly as before.

    `version` is the notebook's: with `same` its cells, settings and input files are those of the
    run before. With `datasets` same, the datasets that the run before was given come in the same
    versions. `parameters` are put over those of the run before, or with `parameterMode` replace in
    their place. The other members are those of an execute: one that is left out is as it was in
    the run before, null is what an execute without it has.
    """

    parameters: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    parameter_mode: str | msgspec.UnsetType = msgspec.UNSET
    strict_parameters: bool | msgspec.UnsetType = msgspec.UNSET
    output_options: OutputOptionsBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    cell_timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    priority: str | msgspec.UnsetType | None = msgspec.UNSET
    continue_on_error: bool | msgspec.UnsetType | None = msgspec.UNSET
    retry_policy: RetryPolicyBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    dry_run: bool | msgspec.UnsetType = msgspec.UNSET
    version: str | msgspec.UnsetType = msgspec.UNSET
    datasets: str | msgspec.UnsetType = msgspec.UNSET


class ExecuteNotebookFields(TypedDict, total=False):
    """What `ExecuteNotebook` is made of."""

    execution_mode: str | None
    cell_range: CellRangeBody | dict[str, Any] | None
    parameters: dict[str, Any] | None
    strict_parameters: bool | None
    output_options: OutputOptionsBody | dict[str, Any] | None
    timeout: float | None
    cell_timeout: float | None
    priority: str | None
    continue_on_error: bool | None
    retry_policy: RetryPolicyBody | dict[str, Any] | None
    tags: list[str] | None
    dry_run: bool | None


class RepairExecutionFields(TypedDict, total=False):
    """What `RepairExecution` is made of."""

    parameters: dict[str, Any] | None
    parameter_mode: str
    strict_parameters: bool
    output_options: OutputOptionsBody | dict[str, Any] | None
    timeout: float | None
    cell_timeout: float | None
    priority: str | None
    continue_on_error: bool | None
    retry_policy: RetryPolicyBody | dict[str, Any] | None
    tags: list[str] | None
    dry_run: bool
    version: str
    datasets: str
    cells: str


class RerunExecutionFields(TypedDict, total=False):
    """What `RerunExecution` is made of."""

    parameters: dict[str, Any] | None
    parameter_mode: str
    strict_parameters: bool
    output_options: OutputOptionsBody | dict[str, Any] | None
    timeout: float | None
    cell_timeout: float | None
    priority: str | None
    continue_on_error: bool | None
    retry_policy: RetryPolicyBody | dict[str, Any] | None
    tags: list[str] | None
    dry_run: bool
    version: str
    datasets: str
