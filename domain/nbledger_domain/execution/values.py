"""What executions and their events are made of."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nbledger_domain.cells import CellType
from nbledger_domain.not_kept import NotKept
from nbledger_domain.vocabulary.priorities import Priority


class ExecutionStatus(StrEnum):
    """What a client is told; everything but ``RUNNING`` is final."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    ERROR = "Error"
    CANCELLED = "Cancelled"


class Phase(StrEnum):
    """What a running execution is doing."""

    QUEUED = "Queued"
    PROVISIONING = "Provisioning"
    STARTING = "Starting"
    EXECUTING = "Executing"


class CellStatus(StrEnum):
    """What has become of one cell."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESS = "Success"
    ERROR = "Error"
    SKIPPED = "Skipped"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"


EnvironmentStage = Literal["waiting", "resolving", "building", "ready"]

ArtifactKind = Literal["report", "dataset", "model", "file"]

CauseKind = Literal["request", "schedule", "dataset", "cells", "rerun", "repair"]

RetryReason = Literal["worker_lost", "kernel_died", "cell_error", "run_timeout", "cell_timeout"]


class CellRange(msgspec.Struct, frozen=True, rename="camel"):
    """From one cell to another, both included."""

    start_cell: str
    end_cell: str


class OutputOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is kept of a run. ``report_code`` says whether its report shows the cells' code."""

    capture_outputs: bool = True
    save_intermediate_results: bool = True
    generate_report: bool = False
    report_code: Literal["show", "hide"] | UnsetType = UNSET


class RetryPolicy(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """When a run whose cells have begun may begin anew, from its first cell.

    ``max_attempts`` counts the first one too. ``retry_on`` are the ends that allow another.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    retry_on: tuple[RetryReason, ...] = ("worker_lost", "kernel_died")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How to run. ``timeout`` bounds the run, ``cell_timeout`` each cell; both in seconds.

    Without a ``retry_policy`` a run whose cells have begun never begins anew.
    """

    timeout: float
    cell_timeout: float | None = None
    priority: Priority = "Normal"
    continue_on_error: bool = False
    output_options: OutputOptions = OutputOptions()
    retry_policy: RetryPolicy | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Why there is a run, and by what: the ids that belong to its ``kind``.

    A ``schedule`` names itself, its firing, when that was due, and what triggered it; a ``dataset``
    and ``cells`` name the version that came, the trigger and how many changes it stands for; a
    ``rerun`` or ``repair`` names the execution before.
    """

    kind: CauseKind
    schedule_id: UUID | None = None
    firing_id: UUID | None = None
    due_at: datetime | None = None
    trigger: str | None = None
    dataset_id: UUID | None = None
    dataset_version: int | None = None
    notebook_version: str | None = None
    execution_id: UUID | None = None
    trigger_id: UUID | None = None
    changes: int | None = None


REQUESTED_CAUSE: Final = Cause(kind="request")
"""Of whatever does not say otherwise: somebody asked for it."""


class GivenDataset(msgspec.Struct, frozen=True, rename="camel"):
    """A version of a dataset that a run is given, or is to be given."""

    dataset_id: UUID
    version: int


class PlannedCell(msgspec.Struct, frozen=True, rename="camel"):
    """A cell that the run covers; only code cells go to the kernel."""

    cell_id: str
    cell_type: CellType


class Representation(msgspec.Struct, frozen=True, rename="camel"):
    """One form of an output: its media type, and its bytes by SHA-256 and size."""

    content_type: str
    digest: str
    size: int


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One output of a cell.

    ``output_type`` is nbformat's: stream, display_data, execute_result or error.
    ``representations`` holds the richest form first. ``stream`` is stdout or stderr. ``width``
    and ``height`` are those of a picture, in pixels; ``rows`` and ``columns`` those of a table.
    ``not_kept_before`` tells what came between the output before and this one, and is not kept.
    """

    output_type: str
    representations: list[Representation]
    stream: str | None = None
    title: str | None = None
    width: int | None = None
    height: int | None = None
    rows: int | None = None
    columns: int | None = None
    metadata: dict[str, Any] = {}
    not_kept_before: NotKept | None = None


class KernelFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a kernel said that it is: its kernelspec's name, its implementation and that version."""

    kernelspec: str
    implementation: str
    implementation_version: str


class CellError(msgspec.Struct, frozen=True, rename="camel"):
    """The exception that a cell ended with; ``traceback`` without terminal colours."""

    error_type: str
    error_message: str
    traceback: list[str]


class Resources(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run used, children included; memory is the peak."""

    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    disk_bytes: int | None = None
