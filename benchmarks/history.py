"""Histories to measure with, made by the aggregates themselves so that they are of true shape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from nbledger_domain.cells import Cell
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import (
    CellStatus,
    Execution,
    Output,
    PlannedCell,
    Representation,
    Resources,
    RunOptions,
    TerminationCode,
)
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_infrastructure.identifiers import new_id

START = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
STATUSES = ("Ready", "Running", "Error", "Kernel_Dead")
KERNELS = ("python3", "r")
_CELLS = [
    Cell(cell_id="cell-001", cell_type="markdown", source="# Process mining analysis"),
    Cell(cell_id="cell-002", cell_type="code", source="import pandas as pd"),
    Cell(cell_id="cell-003", cell_type="code", source="frame = pd.read_parquet(dataset_id)"),
    Cell(cell_id="cell-004", cell_type="code", source="frame.describe()"),
]
_TABLE = Representation("text/html", hashlib.sha256(b"table").hexdigest(), 4096)
_TEXT = Representation("text/plain", hashlib.sha256(b"text").hexdigest(), 512)
_RESOURCES = Resources(peak_memory_bytes=250_000_000, cpu_seconds=8.5, disk_bytes=1_000_000)


@dataclass(frozen=True, slots=True)
class StreamHistory:
    """A new stream of the notebook `subject_id` and all of its events."""

    stream_id: UUID
    subject_id: UUID
    events: Sequence[DomainEvent]


def histories(notebooks: int) -> Iterator[StreamHistory]:
    """Notebooks that were made, edited twice and run to the end: 15 events each."""
    for number in range(notebooks):
        at = START + timedelta(seconds=number)
        notebook = _notebook(number, at)
        notebook.update(NotebookChanges(name=f"Process mining analysis {number}"), at=at)
        notebook.update(NotebookChanges(description="Customer journeys"), at=at)
        yield StreamHistory(notebook.id, notebook.id, _decided(notebook))
        execution = _requested(notebook.id, at)
        epoch = execution.claim("worker-1", at=at)
        execution.start(epoch, language="python", language_version="3.11.7", at=at)
        for count, cell in enumerate(_CELLS[1:], 1):
            at += timedelta(seconds=1)
            execution.start_cell(epoch, cell.cell_id, at=at)
            outputs = [
                Output(output_type="display_data", representations=[_TABLE, _TEXT], title="Dataset")
            ]
            execution.finish_cell(
                epoch,
                cell.cell_id,
                status=CellStatus.SUCCESS,
                execution_count=count,
                duration=0.5,
                outputs=outputs,
                output_count=1,
                output_bytes=4608,
                error=None,
                at=at,
            )
        execution.complete(epoch, resources=_RESOURCES, at=at)
        yield StreamHistory(execution.id, notebook.id, _decided(execution))


def listed(number: int) -> Iterator[StreamHistory]:
    """A notebook for the list, with the fewest events that give it its status.

    Of ten, seven are ready, one is running, one failed and one lost its kernel; of each status
    half has either kernel type, and half of those enriches.
    """
    at = START + timedelta(seconds=number)
    group, place = divmod(number, 10)
    notebook = _notebook(group + place, at, cells=_CELLS[:1])
    yield StreamHistory(notebook.id, notebook.id, _decided(notebook))
    if place < 7:
        return
    execution = _requested(notebook.id, at)
    if place > 7:
        epoch = execution.claim("worker-1", at=at)
        if place == 8:
            execution.fail(
                epoch, TerminationCode.CELL_ERROR, detail="KeyError", resources=_RESOURCES, at=at
            )
        else:
            execution.kernel_died(epoch, detail="Out of memory", resources=_RESOURCES, at=at)
    yield StreamHistory(execution.id, notebook.id, _decided(execution))


def _notebook(number: int, at: datetime, cells: Sequence[Cell] = _CELLS) -> Notebook:
    return Notebook.create(
        new_id(),
        name=f"Notebook {number}",
        description="Custom analysis for customer journey optimization",
        kernel_type=KERNELS[number % len(KERNELS)],
        integration=Integration(enrichment_mode=bool(number // len(KERNELS) % 2)),
        environment=Environment(packages=["pandas", "numpy"]),
        cells=cells,
        created_by="bench",
        at=at,
    )


def _requested(notebook_id: UUID, at: datetime) -> Execution:
    return Execution.request(
        new_id(),
        notebook_id=notebook_id,
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=[PlannedCell(cell.cell_id, cell.cell_type) for cell in _CELLS],
        parameters={"analysis_period": "2024-01", "include_weekends": False},
        options=RunOptions(timeout=1800),
        requested_by="bench",
        at=at,
    )


def _decided(aggregate: Notebook | Execution) -> Sequence[DomainEvent]:
    return [event for event in aggregate.collect_events() if isinstance(event, DomainEvent)]
