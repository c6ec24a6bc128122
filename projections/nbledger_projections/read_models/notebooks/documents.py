"""What the API shows of a notebook, as the read model stores it."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.automation import AutoExecution
from nbledger_domain.schedule import ScheduleSettings
from nbledger_projections.machinery.snapshots import LEAST_BYTES
from nbledger_projections.read_models.notebooks.activity import NotebookActivity


class IntegrationDocument(msgspec.Struct, rename="camel"):
    """How the notebook takes part in data enrichment, and a limit of its runs where it has one."""

    enrichment_mode: bool
    dataset_binding: str | None
    output_format: str | None
    auto_execution: AutoExecution
    schedule_execution: str | ScheduleSettings | UnsetType = UNSET
    max_concurrent_runs: int | UnsetType = UNSET


class CellDocument(msgspec.Struct, rename="camel"):
    """A cell; what a run leaves behind is told of code cells only."""

    cell_id: str
    cell_type: str
    content: str
    metadata: dict[str, Any]
    attachments: dict[str, Any] | UnsetType = UNSET
    execution_count: int | UnsetType | None = UNSET
    has_output: bool | UnsetType = UNSET
    last_executed: str | UnsetType | None = UNSET
    execution_status: str | UnsetType | None = UNSET
    last_modified: str | None = None


class EnvironmentDocument(msgspec.Struct, rename="camel"):
    """What the code expects to import, and the Python that last ran it."""

    python_version: str | UnsetType = UNSET
    packages: list[str] = []
    custom_libraries: list[str] = []


class FileDocument(msgspec.Struct, rename="camel"):
    """An input file: its path below the notebook's folder, and the SHA-256 of its bytes.

    `executable` is there, and true, where runs get it as a program.
    """

    path: str
    content_type: str
    size: int
    digest: str
    date_modified: str
    executable: bool | UnsetType = UNSET


class NotebookDocument(msgspec.Struct, rename="camel"):
    """The body that ``GET …/notebook/{notebookId}`` answers with."""

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


class NotebookState(msgspec.Struct):
    """A row: the document, and what folding on needs besides."""

    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    stream_version: int
    modified_at: datetime
    deletion_requested: bool
    document: NotebookDocument
    activity: NotebookActivity
    until_snapshot: int = LEAST_BYTES
