"""What clients ask for, checked whole: every fault of a request is told at once."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nbledger_application.commands.create_notebook import NewNotebook
from nbledger_application.commands.update_notebook import NotebookUpdate
from nbledger_domain.cells import Cell
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_domain.vocabulary.languages import DEFAULT_KERNEL_TYPE
from nbledger_http.requests import cells as cell_inputs
from nbledger_http.requests.validation import Members, escaped, unstorable
from nbledger_infrastructure import settings
from nbledger_infrastructure.packages import parse_requirement

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
Description = Annotated[str, Meta(max_length=10_000)]
Text = Annotated[str, Meta(max_length=200)]
Package = Annotated[str, Meta(min_length=1, max_length=200)]

MAX_PACKAGES = 1000
OUTPUT_FORMATS = ("enriched_dataframe", "csv", "parquet")
"""What of enriched datasets is written: CSV with Parquet beside it, but for the last."""
READ_ONLY = (
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
    "session",
    "warnings",
    "parsing",
)
"""Members of a notebook that answers carry and an update may send back, unread."""

_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,\-?#L]+\Z")
_FRACTION = re.compile(r"\.(\d+)")


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
) -> Creation:
    """Check the body of a create. Raises :class:`InvalidInputError` with every fault.

    ``template_cells`` gives the cells of a template by its name.
    """
    faults: list[Fault] = []
    warnings: list[str] = []
    members = Members(body, "", faults)
    name = members.require("notebookName", Name, "")
    description = members.take("notebookDescription", Description, "")
    kernel_type = members.take("kernelType", str, DEFAULT_KERNEL_TYPE)
    if kernel_type not in kernel_types:
        members.fault("kernelType", f"must be one of {', '.join(sorted(kernel_types))}")
    template: str | None = members.take("template", str)
    cells: list[Cell] = []
    if template is not None and template not in templates:
        members.fault(
            "template",
            f"there is no such template; there are: {', '.join(sorted(templates)) or 'none'}",
        )
    elif template is not None:
        cells = template_cells(template)
    integration = _integration(members.inner("integration"), Integration(), warnings)
    environment = _environment(members.inner("environment"), Environment(), warnings, environments)
    cells = [
        *cells,
        *cell_inputs.new_cells(members, "initialCells", before=cells, warnings=warnings),
    ]
    members.ignore(*READ_ONLY)
    members.warn_of_unknown(warnings)
    if faults:
        raise InvalidInputError(faults)
    return Creation(
        name, description, kernel_type, template, integration, environment, cells, warnings
    )


def upload(
    fields: Mapping[str, str], *, file_name: str, kernel_types: Collection[str]
) -> tuple[Creation, bool]:
    """Check the fields of an upload; the second value tells whether a kernel type was given.

    Raises :class:`InvalidInputError` with every fault.
    """
    faults = [
        Fault(f"/{escaped(key)}", reason.reason)
        for key, value in fields.items()
        for reason in unstorable(value)
    ]
    given = {key: value for key, value in fields.items() if value != ""}
    body: dict[str, Any] = dict(given)
    for flag in ("enrichmentMode", "autoExecution"):
        if flag in given:
            found = boolean(given[flag])
            if found is None:
                faults.append(Fault(f"/{flag}", "must be true or false"))
            body[flag] = found
    members = Members(body, "", faults)
    default_name = file_name.removesuffix(".ipynb").strip()[:200] or "Untitled"
    name = members.take("notebookName", Name, default_name)
    description = members.take("notebookDescription", Description, "")
    kernel_type: str | None = members.take("kernelType", str)
    if kernel_type is not None and kernel_type not in kernel_types:
        members.fault("kernelType", f"must be one of {', '.join(sorted(kernel_types))}")
    warnings: list[str] = []
    integration = _integration(members, Integration(), warnings)
    if faults:
        raise InvalidInputError(faults)
    return (
        Creation(
            name,
            description,
            kernel_type or DEFAULT_KERNEL_TYPE,
            None,
            integration,
            Environment(),
            [],
            warnings,
        ),
        kernel_type is not None,
    )


def update(
    body: dict[str, Any], notebook: Notebook, *, environments: settings.Environments
) -> Update:
    """Check the body of an update of ``notebook``. Raises :class:`InvalidInputError`."""
    faults: list[Fault] = []
    warnings: list[str] = []
    members = Members(body, "", faults)
    name: str | UnsetType = UNSET
    if members.has("notebookName"):
        name = members.require("notebookName", Name, "")
    description: str | UnsetType = UNSET
    if members.has("notebookDescription"):
        description = members.take("notebookDescription", Description, "")
    integration: Integration | UnsetType = UNSET
    if (inner := members.inner("integration")) is not None:
        integration = _integration(inner, notebook.integration, warnings)
    environment: Environment | UnsetType = UNSET
    new_libraries: list[str] = []
    if (inner := members.inner("environment")) is not None:
        before = notebook.environment
        environment = _environment(inner, before, warnings, environments)
        new_libraries = [
            each for each in environment.custom_libraries if each not in before.custom_libraries
        ]
    cells: Sequence[Cell] | UnsetType = UNSET
    if members.has("cells") and body["cells"] is not None:
        cells = cell_inputs.changed_cells(
            members, "cells", current=notebook.cells, warnings=warnings
        )
    members.ignore("cells")
    kernel_type: str | None = members.take("kernelType", str)
    if kernel_type is not None and kernel_type != notebook.kernel_type:
        members.fault("kernelType", f"cannot be changed; it is {notebook.kernel_type!r}")
    read_at = _date_modified(members)
    members.ignore(*READ_ONLY)
    members.warn_of_unknown(warnings)
    if faults:
        raise InvalidInputError(faults)
    changes = NotebookChanges(
        name=name,
        description=description,
        integration=integration,
        environment=environment,
        cells=cells,
    )
    return Update(changes, read_at, new_libraries, warnings)


def boolean(text: str) -> bool | None:
    """``true`` or ``false`` as forms and queries write them."""
    return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower())


def _integration(members: Members | None, before: Integration, warnings: list[str]) -> Integration:
    """What ``members`` make of the settings ``before``; null takes a text away."""
    if members is None:
        return before
    schedule = _text(members, "scheduleExecution", before.schedule_execution)
    if schedule is not None and not _is_cron(schedule):
        members.fault("scheduleExecution", "must be a cron expression of five fields")
    found = Integration(
        enrichment_mode=members.take("enrichmentMode", bool, before.enrichment_mode),
        dataset_binding=_text(members, "datasetBinding", before.dataset_binding),
        output_format=_text(members, "outputFormat", before.output_format),
        auto_execution=members.take("autoExecution", bool, before.auto_execution),
        schedule_execution=schedule,
    )
    members.warn_of_unknown(warnings)
    asked = found.output_format
    if asked is not None and asked not in OUTPUT_FORMATS and asked != before.output_format:
        known = ", ".join(OUTPUT_FORMATS)
        warnings.append(f"outputFormat: kept, but {asked!r} is unknown; known are {known}")
    if found.schedule_execution is not None and schedule != before.schedule_execution:
        warnings.append("scheduleExecution: kept, but schedules are not run yet")
    if found.auto_execution and not before.auto_execution:
        warnings.append("autoExecution: kept, but nothing executes by itself yet")
    return found


def _text(members: Members, name: str, before: str | None) -> str | None:
    if not members.has(name):
        return before
    return members.take(name, Text, "") or None


def _environment(
    members: Members | None,
    before: Environment,
    warnings: list[str],
    provided: settings.Environments,
) -> Environment:
    if members is None:
        return before
    packages = members.items("packages", Package, limit=MAX_PACKAGES, check=parse_requirement)
    libraries = members.items("customLibraries", Package, limit=MAX_PACKAGES)
    members.ignore("pythonVersion")
    members.warn_of_unknown(warnings)
    if packages and packages != before.packages and not provided.provisioning:
        warnings.append(
            "packages: nothing is provided here; only what kernels have already can be imported"
        )
    return Environment(
        packages=before.packages if packages is None else packages,
        custom_libraries=before.custom_libraries if libraries is None else libraries,
    )


def _date_modified(members: Members) -> datetime | None:
    """When the client's copy was last modified, to the end of what its text tells."""
    text: str | None = members.take("dateModified", str)
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.tzinfo is None:
        members.fault("dateModified", "must be a time such as 2024-01-20T10:30:00.000Z")
        return None
    digits = _FRACTION.search(text)
    step = 10.0 ** -min(len(digits[1]), 6) if digits else 1.0
    try:
        return moment + timedelta(seconds=step)
    except OverflowError:
        return moment


def _is_cron(text: str) -> bool:
    fields = text.split()
    return len(fields) == 5 and all(_CRON_FIELD.match(field) for field in fields)
