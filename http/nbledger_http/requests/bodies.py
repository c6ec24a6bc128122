"""What clients ask of notebooks: create one, upload one, change one."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nbledger_application.commands.create_notebook import NewNotebook
from nbledger_application.commands.update_notebook import NotebookUpdate
from nbledger_domain.cells import Cell
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_domain.vocabulary.languages import DEFAULT_KERNEL_TYPE
from nbledger_http.requests import cells as cell_inputs
from nbledger_http.requests.cells import ChangedCell, NewCell
from nbledger_http.requests.declared import FaultReport, read_form, read_object
from nbledger_http.requests.schedules.advice import schedule_advice
from nbledger_http.requests.schedules.automation import (
    AutoExecutionBody,
    automation_setting,
    nothing_starts,
)
from nbledger_http.requests.schedules.settings import CronText, ScheduleSetting, schedule_setting
from nbledger_infrastructure import settings
from nbledger_infrastructure.packages import parse_requirement

MAX_CELLS = 10_000
MAX_PACKAGES = 1000
OUTPUT_FORMATS = ("enriched_dataframe", "csv", "parquet")
"""What of enriched datasets is written: CSV with Parquet beside it, but for the last."""

SCHEDULE = "/integration/scheduleExecution"
"""Where the schedule is in a JSON body."""

_FRACTION = re.compile(r"\.(\d+)")
_READ_ONLY = (
    "notebookId",
    "projectId",
    "tenantId",
    "notebookVersion",
    "status",
    "template",
    "dateCreated",
    "createdBy",
    "lastExecutionDate",
    "executionCount",
    "files",
    "schedule",
    "automatic",
    "session",
    "warnings",
    "parsing",
)
"""Members of a notebook that answers carry and a request may send back, unread."""


Name = Annotated[
    str,
    Meta(min_length=1, max_length=200, pattern=r"\S", extra={"pattern": "must not be blank"}),
]
Description = Annotated[str, Meta(max_length=10_000)]
Text = Annotated[str, Meta(max_length=200)]
ConcurrentRuns = Annotated[
    int,
    Meta(
        ge=1,
        le=1000,
        description="How many runs of the notebook go on at once; more of them wait. Without it, "
        "or with null, there is no such limit.",
    ),
]
Time = Annotated[
    datetime, Meta(tz=True, extra={"reason": "must be a time such as 2024-01-20T10:30:00.000Z"})
]
Package = Annotated[str, Meta(min_length=1, max_length=200)]
Requirement = Annotated[str, Meta(min_length=1, max_length=200, extra={"check": parse_requirement})]


class IntegrationBody(msgspec.Struct, rename="camel", kw_only=True):
    """How the notebook takes part in data enrichment, and how many runs of it go on at once."""

    enrichment_mode: bool | None = False
    dataset_binding: Text | None = None
    output_format: Text | None = None
    auto_execution: AutoExecutionBody | None = False
    schedule_execution: CronText | ScheduleSetting | None = None
    max_concurrent_runs: ConcurrentRuns | None = None


class EnvironmentBody(msgspec.Struct, rename="camel", kw_only=True):
    """What the notebook's code expects to be able to import."""

    READ_ONLY: ClassVar = ("pythonVersion",)

    packages: Annotated[list[Requirement], Meta(max_length=MAX_PACKAGES)] | None = []
    custom_libraries: Annotated[list[Package], Meta(max_length=MAX_PACKAGES)] | None = []


class CreateNotebook(msgspec.Struct, rename="camel", kw_only=True):
    """What to create. Cells of a template come before the initial cells."""

    READ_ONLY: ClassVar = _READ_ONLY

    notebook_name: Name
    notebook_description: Description | None = ""
    kernel_type: str | None = DEFAULT_KERNEL_TYPE
    template: str | None = None
    integration: IntegrationBody | None = None
    environment: EnvironmentBody | None = None
    initial_cells: Annotated[list[NewCell], Meta(max_length=MAX_CELLS)] | None = None


class UpdateNotebook(msgspec.Struct, rename="camel", kw_only=True):
    """What to change; a member left out stays. A notebook as read may be sent back whole.

    `dateModified`, if given, guards the update like an entity tag: 409 when it is stale.
    """

    READ_ONLY: ClassVar = _READ_ONLY

    notebook_name: Name | UnsetType = UNSET
    notebook_description: Description | UnsetType | None = UNSET
    kernel_type: (
        Annotated[str, Meta(description="As it was read: it cannot be changed.")] | None
    ) = None
    integration: IntegrationBody | None = None
    environment: EnvironmentBody | None = None
    cells: Annotated[list[ChangedCell], Meta(max_length=MAX_CELLS)] | None = None
    date_modified: Time | None = None


class UploadForm(IntegrationBody, rename="camel", kw_only=True):
    """What may be said of an uploaded notebook file."""

    notebook_name: Annotated[Name, Meta(description="By default the name of the file.")] | None = (
        None
    )
    notebook_description: Description | None = None
    kernel_type: Annotated[
        str | None,
        Meta(description="python3, r or scala; by default what the file says, whatever that is."),
    ] = None


class Creation(NewNotebook, frozen=True):
    """A checked request to create a notebook."""

    warnings: list[str]


class Update(NotebookUpdate, frozen=True):
    """A checked request to change a notebook; ``new_libraries`` it had not named before."""

    new_libraries: list[str]
    warnings: list[str]


def creation(
    body: dict[str, Any],
    *,
    kernel_types: Collection[str],
    templates: Mapping[str, Sequence[Cell]] | Collection[str],
    template_cells: Any,
    environments: settings.Environments,
    limits: settings.Executions,
) -> Creation:
    """Check the body of a create. Raises :class:`InvalidInputError` with every fault.

    ``template_cells`` gives the cells of a template by its name.
    """
    report = FaultReport()
    asked = read_object(CreateNotebook, body, report)
    kernel_type = DEFAULT_KERNEL_TYPE if asked.kernel_type is None else asked.kernel_type
    _check_kernel_type(kernel_type, kernel_types, report)
    before: list[Cell] = []
    if asked.template in templates:
        before = template_cells(asked.template)
    elif asked.template is not None:
        known = ", ".join(sorted(templates)) or "none"
        report.fault("/template", f"is not a template; the templates are: {known}")
    integration = _integration(
        asked.integration or IntegrationBody(), Integration(), report, "/integration", limits
    )
    environment = _environment(
        asked.environment or EnvironmentBody(), Environment(), report, environments
    )
    cells = cell_inputs.new_cells(asked.initial_cells or [], before=before, report=report)
    report.check()
    report.warnings += schedule_advice(
        integration.schedule_execution, [*before, *cells], kernel_type, pointer=SCHEDULE
    )
    return Creation(
        asked.notebook_name,
        asked.notebook_description or "",
        kernel_type,
        asked.template,
        integration,
        environment,
        [*before, *cells],
        report.warnings,
    )


def upload(
    fields: Mapping[str, str],
    *,
    file_name: str,
    kernel_types: Collection[str],
    limits: settings.Executions,
) -> tuple[Creation, bool]:
    """Check the fields of an upload; the second value tells whether a kernel type was given.

    Raises :class:`InvalidInputError` with every fault.
    """
    report = FaultReport()
    asked = read_form(UploadForm, fields, report)
    _check_kernel_type(asked.kernel_type, kernel_types, report)
    integration = _integration(asked, Integration(), report, "", limits)
    report.check()
    default_name = file_name.removesuffix(".ipynb").strip()[:200] or "Untitled"
    found = Creation(
        asked.notebook_name or default_name,
        asked.notebook_description or "",
        asked.kernel_type or DEFAULT_KERNEL_TYPE,
        None,
        integration,
        Environment(),
        [],
        report.warnings,
    )
    return found, asked.kernel_type is not None


def update(
    body: dict[str, Any],
    notebook: Notebook,
    *,
    environments: settings.Environments,
    limits: settings.Executions,
) -> Update:
    """Check the body of an update of ``notebook``. Raises :class:`InvalidInputError`."""
    report = FaultReport()
    before = UpdateNotebook(
        integration=IntegrationBody(**msgspec.structs.asdict(notebook.integration)),
        environment=EnvironmentBody(**msgspec.structs.asdict(notebook.environment)),
    )
    asked = read_object(UpdateNotebook, body, report, before)
    description = asked.notebook_description
    changes = NotebookChanges(
        name=asked.notebook_name,
        description="" if description is None else description,
        integration=(
            UNSET
            if asked.integration is None
            else _integration(
                asked.integration, notebook.integration, report, "/integration", limits
            )
        ),
        environment=(
            UNSET
            if asked.environment is None
            else _environment(asked.environment, notebook.environment, report, environments)
        ),
        cells=(
            UNSET
            if asked.cells is None
            else cell_inputs.changed_cells(asked.cells, current=notebook.cells, report=report)
        ),
    )
    if asked.kernel_type not in (None, notebook.kernel_type):
        report.fault("/kernelType", f"cannot be changed; it is {notebook.kernel_type!r}")
    report.check()
    if body.get("integration") is not None or changes.cells is not UNSET:
        report.warnings += schedule_advice(
            (changes.integration or notebook.integration).schedule_execution,
            notebook.cells if changes.cells is UNSET else changes.cells,
            notebook.kernel_type,
            pointer=SCHEDULE,
        )
    libraries = (asked.environment or EnvironmentBody()).custom_libraries or []
    known = notebook.environment.custom_libraries
    return Update(
        changes,
        _end_of(asked.date_modified, body.get("dateModified")),
        [each for each in libraries if each not in known],
        report.warnings,
    )


def _check_kernel_type(asked: str | None, known: Collection[str], report: FaultReport) -> None:
    if asked is not None and asked not in known:
        report.fault("/kernelType", f"must be one of {', '.join(sorted(known))}")


def _integration(
    asked: IntegrationBody,
    before: Integration,
    report: FaultReport,
    pointer: str,
    limits: settings.Executions,
) -> Integration:
    """The settings that are asked for in place of ``before``; an empty text is none."""
    found = Integration(
        enrichment_mode=bool(asked.enrichment_mode),
        dataset_binding=asked.dataset_binding or None,
        output_format=asked.output_format or None,
        auto_execution=automation_setting(
            asked.auto_execution or False, report, f"{pointer}/autoExecution", limits
        ),
        schedule_execution=schedule_setting(
            asked.schedule_execution,
            before.schedule_execution,
            report,
            f"{pointer}/scheduleExecution",
            limits,
        ),
        max_concurrent_runs=asked.max_concurrent_runs,
    )
    form = found.output_format
    if form is not None and form not in OUTPUT_FORMATS and form != before.output_format:
        known = ", ".join(OUTPUT_FORMATS)
        report.warnings.append(f"outputFormat: {form!r} is kept but unknown; known are {known}")
    if found != before and nothing_starts(found.auto_execution, found.dataset_binding):
        report.warnings.append("autoExecution: no dataset is bound, so nothing starts a run")
    return found


def _environment(
    asked: EnvironmentBody,
    before: Environment,
    report: FaultReport,
    provided: settings.Environments,
) -> Environment:
    found = Environment(
        packages=asked.packages or [], custom_libraries=asked.custom_libraries or []
    )
    if found.packages and found.packages != before.packages and not provided.provisioning:
        report.warnings.append(
            "packages: this service installs none; cells can import only what their kernel has"
        )
    return found


def _end_of(moment: datetime | None, text: str | None) -> datetime | None:
    """When the client's copy was last modified, to the end of what its text tells."""
    if moment is None:
        return None
    digits = _FRACTION.search(text or "")
    step = 10.0 ** -min(len(digits[1]), 6) if digits else 1.0
    try:
        return moment + timedelta(seconds=step)
    except OverflowError:
        return moment
