"""Types of the API: notebooks. Made by `make client-models`."""

from typing import Any

import msgspec

from nbledger_client.answers import Answered
from nbledger_client.models.common import AutomationSummary, RetryPolicy, Session


class AutomationSettings(msgspec.Struct, rename="camel", kw_only=True):
    """When a change of one of the kinds `on` starts a run.

    A run starts `quiet_seconds` after the last change, but no later than `max_wait_seconds` after
    the first, and never sooner than `min_interval_seconds` after the start of the run before it.
    Without `max_wait_seconds` it is ten times `quiet_seconds`, at least a minute. The run's cells
    have `cell_timeout` seconds each, and the run `retry_policy` and `tags`.
    """

    on: list[str] = msgspec.field(default_factory=lambda: ["dataset", "cells"])
    quiet_seconds: int = 5
    max_wait_seconds: int | None = None
    min_interval_seconds: int = 0
    cell_timeout: float | None = None
    retry_policy: RetryPolicy | None = None
    tags: list[str] = []


class CellCounts(msgspec.Struct, rename="camel", kw_only=True):
    """How many cells there are of each type."""

    code: int
    markdown: int
    raw: int
    total: int


class CellDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A cell; what a run leaves behind is told of code cells only."""

    cell_id: str
    cell_type: str
    content: str
    metadata: dict[str, Any]
    attachments: dict[str, Any] | None = None
    execution_count: int | None = None
    has_output: bool | None = None
    last_executed: str | None = None
    execution_status: str | None = None
    last_modified: str | None = None


class EnvironmentDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What the code expects to import, and the Python that last ran it."""

    python_version: str | None = None
    packages: list[str] = []
    custom_libraries: list[str] = []


class FileDocument(msgspec.Struct, rename="camel", kw_only=True):
    """An input file: its path below the notebook's folder, and the SHA-256 of its bytes.

    `executable` is there, and true, where runs get it as a program.
    """

    path: str
    content_type: str
    size: int
    digest: str
    date_modified: str
    executable: bool | None = None


class ScheduleSettings(msgspec.Struct, rename="camel", kw_only=True):
    """When a notebook runs by itself, and how.

    `cron` has five fields and is read in `time_zone`; firings are due from `start` to `end`, both
    included, until `max_runs` of them have run. Each run has `timeout` seconds, the service's
    default without, each of its cells `cell_timeout`, and the run `priority`, `retry_policy` and
    `tags`. `overlap` says what becomes of a firing while an earlier one still runs. One that is
    late by more than `catch_up_seconds` is missed. Each fires up to `jitter_seconds` later than it
    is due. After so many failed runs without another between them as `pause_after_failures` says
    the schedule is paused.
    """

    cron: str
    time_zone: str = "UTC"
    start: str | None = None
    end: str | None = None
    max_runs: int | None = None
    parameters: dict[str, Any] = {}
    timeout: float | None = None
    cell_timeout: float | None = None
    priority: str = "Normal"
    retry_policy: RetryPolicy | None = None
    tags: list[str] = []
    overlap: str = "skip"
    catch_up_seconds: int = 3600
    jitter_seconds: int = 0
    pause_after_failures: int | None = None


class IntegrationDocument(msgspec.Struct, rename="camel", kw_only=True):
    """How the notebook takes part in data enrichment, and a limit of its runs where it has one."""

    enrichment_mode: bool
    dataset_binding: str | None
    output_format: str | None
    auto_execution: bool | AutomationSettings
    schedule_execution: str | ScheduleSettings | None = None
    max_concurrent_runs: int | None = None


class ScheduleSummary(msgspec.Struct, rename="camel", kw_only=True):
    """A schedule in words, and when it fires next.

    `state` is active, paused (it fires no more until it is resumed), ended (it is never due again)
    or invalid: `description` then says what is wrong with it.
    """

    cron: str
    time_zone: str
    description: str
    next_firings: list[str]
    state: str


class ChangedNotebook(Answered, rename="camel", kw_only=True):
    """The whole notebook, and what is to be said of the request that has made it so."""

    notebook_id: str
    project_id: str
    notebook_name: str
    notebook_description: str
    notebook_version: str
    kernel_type: str
    template: str | None
    status: str
    integration: IntegrationDocument
    cells: list[CellDocument]
    environment: EnvironmentDocument
    date_created: str
    date_modified: str
    created_by: str
    last_execution_date: str | None
    execution_count: int
    files: list[FileDocument] = []
    schedule: ScheduleSummary | None = None
    automatic: AutomationSummary | None = None
    warnings: list[str]


class DeletionUnderWay(Answered, rename="camel", kw_only=True):
    """The notebook is deleted when its executions, which are being cancelled, have ended."""

    notebook_id: str
    status: str = "Deleting"
    detail: str


class FileList(Answered, rename="camel", kw_only=True):
    """A page of a notebook's input files, by path; `total_size` is of all, in bytes."""

    files: list[FileDocument]
    notebook_version: str
    total_size: int
    total_count: int
    page: int
    page_size: int
    has_next_page: bool


class FilesChanged(Answered, rename="camel", kw_only=True):
    """The files that were sent, as they are kept now, and the notebook's new version."""

    files: list[FileDocument]
    notebook_version: str
    notebook_etag: str
    warnings: list[str]


class Parsing(msgspec.Struct, rename="camel", kw_only=True):
    """What reading the uploaded file found; `upgrades` is what was done to bring it to 4.5."""

    nbformat: str
    cells: CellCounts
    upgrades: list[str]


class NewNotebook(Answered, rename="camel", kw_only=True):
    """The whole notebook, with what would run it and, for an upload, what the file held."""

    notebook_id: str
    project_id: str
    notebook_name: str
    notebook_description: str
    notebook_version: str
    kernel_type: str
    template: str | None
    status: str
    integration: IntegrationDocument
    cells: list[CellDocument]
    environment: EnvironmentDocument
    date_created: str
    date_modified: str
    created_by: str
    last_execution_date: str | None
    execution_count: int
    files: list[FileDocument] = []
    schedule: ScheduleSummary | None = None
    automatic: AutomationSummary | None = None
    warnings: list[str]
    session: Session | None = None
    parsing: Parsing | None = None


class NotebookItemDocument(msgspec.Struct, rename="camel", kw_only=True):
    """An element of `notebooks` in the answer to `GET …/notebooks`."""

    notebook_id: str
    notebook_name: str
    kernel_type: str
    status: str
    enrichment_mode: bool
    cell_count: int
    last_execution_date: str | None
    date_created: str


class NotebookListDocument(Answered, rename="camel", kw_only=True):
    """A page of the project's notebooks, newest first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    notebooks: list[NotebookItemDocument]


class ParameterDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A parameter that `execute` may be given.

    `types` are the kinds of JSON values that it takes, empty where that is not known;
    `declaredType` is the type that the code names. `default` is there where the notebook has a
    literal that JSON has, too, and `defaultSource` as the code has it; a parameter that is
    `required` has neither. `help` is the comment beside it.
    """

    name: str
    types: list[str]
    declared_type: str | None
    required: bool
    default: Any | None = None
    default_source: str | None
    help: str | None


class ParametersDocument(Answered, rename="camel", kw_only=True):
    """The parameters, as the cell `cellId` declares them; without such a cell there are none."""

    notebook_id: str
    notebook_version: str
    kernel_type: str
    language: str | None
    cell_id: str | None
    parameters: list[ParameterDocument]


class ShownNotebook(Answered, rename="camel", kw_only=True):
    """A notebook, with its schedule and what its automatic execution means where it has them."""

    notebook_id: str
    project_id: str
    notebook_name: str
    notebook_description: str
    notebook_version: str
    kernel_type: str
    template: str | None
    status: str
    integration: IntegrationDocument
    cells: list[CellDocument]
    environment: EnvironmentDocument
    date_created: str
    date_modified: str
    created_by: str
    last_execution_date: str | None
    execution_count: int
    files: list[FileDocument] = []
    schedule: ScheduleSummary | None = None
    automatic: AutomationSummary | None = None


class TemplateParameterDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A parameter that `execute` may be given for a notebook made from the template."""

    name: str
    default: Any
    description: str


class TemplateDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A template: `name` is what `template` is set to when a notebook is created."""

    name: str
    title: str
    description: str
    kernel_type: str
    parameters: list[TemplateParameterDocument]


class TemplateListDocument(Answered, rename="camel", kw_only=True):
    """Every template, by name."""

    templates: list[TemplateDocument]
