"""What is known of how the result of a run came about, each fact as an event recorded it.

Null is what is not known: what an earlier version did not record, or what a run did not come to.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from nbledger_domain.cells import Cell, CellType
from nbledger_domain.execution import Cause, Representation, Resources, RunOptions
from nbledger_domain.notebook import UploadedFile

_canonical = msgspec.json.Encoder(order="sorted").encode


class NotebookFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The notebook as the run executed it.

    ``stream_version`` is the event of the notebook's stream that the run is pinned to. ``digest``
    is the SHA-256 over its cells (see `notebook_digest`). ``uploaded`` is the file that it came
    from, if it came from one.
    """

    notebook_id: UUID
    name: str
    description: str
    version: str
    stream_version: int
    digest: str
    uploaded: UploadedFile | None


class ExecutedKernel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The kernel that the last attempt's cells ran on."""

    kernel_type: str
    kernelspec: str | None
    implementation: str | None
    implementation_version: str | None
    language: str | None
    language_version: str | None


class EnvironmentFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What could be imported.

    ``packages`` and ``custom_libraries`` are those that the notebook asks for, ``provided`` those
    that were added beside the kernel's own, as ``name==version``. ``resolved`` is the list of all
    that the kernel could import, as text of such lines, kept with the run's outputs.
    """

    packages: list[str]
    custom_libraries: list[str]
    provided: list[str] | None
    resolved: Representation | None


class DatasetFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset that the run was given, in this version.

    ``name``, ``content`` and ``rows`` are null where the dataset was deleted since.
    """

    dataset_id: UUID
    version: int | None
    name: str | None
    content: Representation | None
    rows: int | None


class InputFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An input file beside the notebook, as the run got it."""

    path: str
    content: Representation


class OutputFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An output of a cell, by its forms."""

    output_type: str
    representations: list[Representation]


class CellFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A cell that the run covered, and what it did in the last attempt.

    ``status`` is null for a cell that is not code.
    """

    cell_id: str
    cell_type: CellType
    status: str | None
    start_time: datetime | None
    end_time: datetime | None
    execution_count: int | None
    error: str | None
    outputs_digest: str | None
    outputs: list[OutputFacts]


class ArtifactFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A file that the run produced; of a dataset also the version that it became."""

    kind: str
    name: str
    file_name: str
    cell_id: str | None
    content: Representation
    dataset_id: str | None
    dataset_version: int | None


class AttemptFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An attempt of a worker: ``outcome`` is the code that it ended with, null while it goes on."""

    attempt: int
    worker_id: str
    start_time: datetime
    end_time: datetime | None
    outcome: str | None


class RepeatedRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An earlier run that led to this one, by a rerun or repair; ``cause`` is why there was it."""

    execution_id: UUID
    requested_by: str
    requested_at: datetime
    cause: Cause


class LogFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the run is in the tenant's log: the numbers of the entries of two of its events.

    ``requested`` is that of its first event and ``last`` that of its last one, whose chain value
    covers all events of the run; null what no checkpoint covers yet. ``size`` is that of the newest
    checkpoint.
    """

    origin: str
    size: int
    requested: int | None
    last: int | None


class Provenance(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How the result of a run came about, from its events; ``requested_by_id`` is who asked for it.

    ``first_position`` and ``last_position`` are those of its first and last event in the store, and
    ``events`` is how many there are. ``causes`` are the earlier runs that led to it, the latest
    first. ``log`` is null where no sealer is at work, or for who may not read histories.
    """

    execution_id: UUID
    tenant_id: UUID
    project_id: UUID
    requested_by: str
    requested_by_id: str
    requested_at: datetime
    start_time: datetime | None
    end_time: datetime | None
    status: str
    termination_code: str | None
    cause: Cause
    causes: list[RepeatedRun]
    notebook: NotebookFacts
    parameters: dict[str, Any]
    options: RunOptions
    tags: list[str]
    kernel: ExecutedKernel
    environment: EnvironmentFacts
    datasets: list[DatasetFacts]
    input_files: list[InputFacts]
    attempts: list[AttemptFacts]
    cells: list[CellFacts]
    artifacts: list[ArtifactFacts]
    metrics: dict[str, float]
    resources: Resources
    warnings: list[str]
    first_position: int
    last_position: int
    events: int
    log: LogFacts | None = None


def notebook_digest(cells: Sequence[Cell]) -> str:
    """The SHA-256, in hexadecimal, of what the cells say, whatever they have put out.

    That is the JSON list of ``attachments``, ``cellId``, ``cellType``, ``metadata`` and ``source``
    of each cell, in UTF-8 without blanks, members in the order of their names.
    """
    said = [
        {
            "cellId": cell.cell_id,
            "cellType": cell.cell_type,
            "source": cell.source,
            "metadata": cell.metadata,
            "attachments": cell.attachments,
        }
        for cell in cells
    ]
    return hashlib.sha256(_canonical(said)).hexdigest()
