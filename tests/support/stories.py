"""Notebooks and runs that live through random but legal histories, and their recorded events."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

from nbledger_application import repository
from nbledger_domain import events
from nbledger_domain.cells import Cell
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import (
    CellError,
    CellRange,
    CellStatus,
    Execution,
    Output,
    Phase,
    PlannedCell,
    Representation,
    Resources,
    RunOptions,
    TerminationCode,
)
from nbledger_domain.input_files import FileLimits, InputFile
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordedEvent,
    Stream,
)

START = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
BY_TESTER = Metadata(actor="tester")
KERNELS = ("python3", "r", "scala")
FILES = ("input.csv", "data/a.csv", "data/b.csv", "helpers.py")
RESOURCES = Resources(peak_memory_bytes=2_300_000_000, cpu_seconds=510.0, disk_bytes=450_000_000)
SPECIAL = 'ünïcødé "quoted" \\ \n \x00 \U0001f600'


@dataclass
class Story:
    """One notebook and its executions; ``step`` lets something happen to them."""

    notebook: Notebook
    stream: Stream
    executions: list[Execution] = field(default_factory=list)
    at: datetime = START

    @property
    def running(self) -> list[Execution]:
        return [execution for execution in self.executions if not execution.ended]

    def execution_stream(self, execution: Execution) -> Stream:
        return Stream(execution.id, self.notebook.id, self.stream.tenant_id, self.stream.project_id)

    def decided(self) -> list[tuple[Stream, list[DomainEvent]]]:
        """What has been decided and not been taken yet, by stream."""
        taken = [(self.stream, _collect(self.notebook))]
        taken += [(self.execution_stream(each), _collect(each)) for each in self.executions]
        if self.notebook.deleted:
            taken.reverse()  # it goes with its last execution
        return [(stream, decided) for stream, decided in taken if decided]


def begin(
    dice: random.Random, *, tenant_id: UUID | None = None, project_id: UUID | None = None
) -> Story:
    notebook_id = UUID(int=dice.getrandbits(128), version=4)
    notebook = Notebook.create(
        notebook_id,
        name=f"Notebook {dice.randrange(1000)} {SPECIAL}",
        description="An analysis",
        kernel_type=dice.choice(KERNELS),
        integration=Integration(enrichment_mode=dice.random() < 0.5),
        environment=Environment(packages=["pandas"]),
        cells=_cells(dice),
        created_by="user123",
        at=START,
    )
    stream = Stream(notebook_id, notebook_id, tenant_id or uuid.uuid4(), project_id or uuid.uuid4())
    return Story(notebook, stream)


def step(story: Story, dice: random.Random) -> None:
    """Let one random thing happen: an edit, a request, or a step of a run."""
    story.at += timedelta(seconds=dice.randrange(1, 90), milliseconds=dice.randrange(1000))
    if story.notebook.deleted:
        return
    running = story.running
    if running and dice.random() < 0.8:
        advance(dice.choice(running), dice, story.at)
    elif dice.random() < 0.5 and not story.notebook.deletion_requested:
        some = CellRange("cell-001", "cell-001") if dice.random() < 0.3 else None
        story.executions.append(request(story, dice, cell_range=some))
    elif not story.notebook.deletion_requested:
        _edit(story, dice)


def request(story: Story, dice: random.Random, *, cell_range: CellRange | None = None) -> Execution:
    notebook = story.notebook
    return Execution.request(
        UUID(int=dice.getrandbits(128), version=4),
        notebook_id=notebook.id,
        notebook_version=notebook.notebook_version,
        notebook_stream_version=notebook.version,
        kernel_type=notebook.kernel_type,
        cells=[PlannedCell(cell.cell_id, cell.cell_type) for cell in notebook.cells],
        parameters={"period": "2024-01", "weekends": False, "text": SPECIAL},
        options=RunOptions(timeout=1800, priority=dice.choice(["Low", "Normal", "High"])),
        requested_by="user123",
        at=story.at,
        cell_range=cell_range,
        warnings=[f"/parameters/period: {SPECIAL}"] if len(story.executions) % 2 else [],
    )


def complete(story: Story, execution: Execution, seconds: float) -> None:
    """Run every code cell well; the run ends ``seconds`` after now."""
    epoch = execution.claim("worker-1", at=story.at)
    execution.start(epoch, language="python", language_version="3.11.7", at=story.at)
    for cell in execution.cells:
        if cell.cell_type == "code":
            execution.start_cell(epoch, cell.cell_id, at=story.at)
            finish_cell(execution, cell.cell_id, CellStatus.SUCCESS, story.at)
    story.at += timedelta(seconds=seconds)
    execution.complete(epoch, resources=RESOURCES, at=story.at)


def finish_cell(
    execution: Execution,
    cell_id: str,
    status: CellStatus,
    at: datetime,
    outputs: Sequence[Output] = (),
) -> None:
    failed = status is CellStatus.ERROR
    execution.finish_cell(
        execution.epoch,
        cell_id,
        status=status,
        execution_count=None if status is CellStatus.SKIPPED else 7,
        duration=3.2,
        outputs=outputs,
        output_count=len(outputs),
        output_bytes=100 * len(outputs),
        error=CellError("KeyError", "'customer_id'", ["Traceback"]) if failed else None,
        at=at,
    )


def output(content_type: str, output_type: str = "display_data", **metadata: object) -> Output:
    digest = hashlib.sha256(content_type.encode()).hexdigest()
    return Output(
        output_type=output_type,
        representations=[Representation(content_type, digest, 12)],
        metadata=metadata,
    )


def tell(story: Story, position: int = 0) -> list[RecordedEvent]:
    """Take what has been decided as events recorded from ``position`` on, without a store."""
    told: list[RecordedEvent] = []
    for stream, decided in story.decided():
        for event in decided:
            position += 1
            told.append(
                RecordedEvent(
                    position=position,
                    stream_id=stream.stream_id,
                    version=event.originator_version,
                    event_id=uuid.uuid4(),
                    type=event.TYPE,
                    subject_id=stream.subject_id,
                    tenant_id=stream.tenant_id,
                    project_id=stream.project_id,
                    data=events.encode(event),
                    metadata=BY_TESTER,
                    occurred_at=event.timestamp,
                    recorded_at=event.timestamp,
                    digest=b"",
                    chain=b"",
                    stored_type=event.TYPE,
                )
            )
    return told


async def record(store: EventStore, *stories: Story) -> int:
    """Append what has been decided to the store; returns the position of the last event."""
    position = 0
    for story in stories:
        for stream, decided in story.decided():
            appended = await repository.append(store, stream, decided, BY_TESTER)
            position = max(position, appended.position)
    return position


def _collect(aggregate: Notebook | Execution) -> list[DomainEvent]:
    return list(cast("Sequence[DomainEvent]", aggregate.collect_events()))


def _cells(dice: random.Random) -> list[Cell]:
    kinds = ["code", *dice.choices(["code", "markdown", "raw"], k=dice.randrange(5))]
    dice.shuffle(kinds)
    return [
        Cell(cell_id=f"cell-{number:03d}", cell_type=kind, source=f"print({number})")  # type: ignore[arg-type]
        for number, kind in enumerate(kinds, 1)
    ]


def _edit(story: Story, dice: random.Random) -> None:
    changes = dice.choice(
        [
            NotebookChanges(name=f"Renamed {dice.randrange(1000)}"),
            NotebookChanges(description=f"Described {dice.randrange(1000)}"),
            NotebookChanges(integration=Integration(enrichment_mode=dice.random() < 0.5)),
            NotebookChanges(environment=Environment(packages=["numpy", str(dice.random())])),
            NotebookChanges(cells=_cells(dice)),
        ]
    )
    if dice.random() < 0.3:
        _edit_files(story, dice)
    else:
        story.notebook.update(changes, at=story.at)


def _edit_files(story: Story, dice: random.Random) -> None:
    files = story.notebook.files
    if files and dice.random() < 0.4:
        story.notebook.remove_file(dice.choice(sorted(files)), at=story.at)
        return
    put = [input_file(path, dice.randrange(100)) for path in dice.sample(FILES, dice.randrange(3))]
    limits = FileLimits(count=100, total_bytes=10_000)
    story.notebook.put_files(put, replace=True, limits=limits, at=story.at)


def input_file(path: str, size: int = 12) -> InputFile:
    """An input file whose content is as good as its size."""
    digest = hashlib.sha256(str(size).encode()).hexdigest()
    return InputFile(path=path, content_type="text/csv", digest=digest, size=size)


def advance(execution: Execution, dice: random.Random, at: datetime) -> None:
    """Let the worker that has it record one more step, if any."""
    if dice.random() < 0.05:
        execution.request_cancel(requested_by="user123", at=at)
        return
    if execution.phase is Phase.QUEUED:
        epoch = execution.claim("worker-1", at=at)
        execution.warn(epoch, f"attempt {epoch}", at=at)
    elif dice.random() < 0.1:
        _break_off(execution, dice, at)
    elif execution.phase is Phase.STARTING:
        execution.start(execution.epoch, language="python", language_version="3.11.7", at=at)
    elif execution.running_cell is not None:
        _finish_running(execution, dice, at)
    else:
        _go_on(execution, dice, at)


def _break_off(execution: Execution, dice: random.Random, at: datetime) -> None:
    epoch = execution.epoch
    match dice.randrange(5):
        case 0:
            execution.lose_attempt(epoch, "The worker was lost.", at=at)
        case 1:
            execution.fail(
                epoch,
                TerminationCode.CELL_ERROR,
                detail="KeyError in cell-001",
                resources=RESOURCES,
                at=at,
            )
        case 2:
            execution.time_out(
                epoch,
                TerminationCode.RUN_TIMEOUT,
                detail="It took more than 1800 seconds.",
                resources=RESOURCES,
                at=at,
            )
        case 3:
            execution.kernel_died(epoch, detail="Killed.", resources=RESOURCES, at=at)
        case _:
            execution.cancel(epoch, resources=RESOURCES, at=at)


def _finish_running(execution: Execution, dice: random.Random, at: datetime) -> None:
    assert execution.running_cell is not None
    statuses = [CellStatus.SUCCESS] * 3 + [CellStatus.ERROR, CellStatus.TIMED_OUT]
    outputs = dice.choices(
        [
            output("text/html", "execute_result", dataFrame=True),
            output("image/png"),
            output("application/vnd.plotly.v1+json"),
            output("text/plain", "stream"),
        ],
        k=dice.randrange(4),
    )
    finish_cell(execution, execution.running_cell, dice.choice(statuses), at, outputs)


def _go_on(execution: Execution, dice: random.Random, at: datetime) -> None:
    waiting = [
        cell.cell_id
        for cell in execution.cells
        if cell.cell_type == "code" and execution.cell_statuses[cell.cell_id] is CellStatus.PENDING
    ]
    kind = dice.choice(["cell", "cell", "cell", "dataset", "model", "truncated"])
    epoch = execution.epoch
    if not waiting:
        execution.complete(epoch, resources=RESOURCES, at=at)
    elif kind == "cell" and dice.random() < 0.1:
        finish_cell(execution, waiting[0], CellStatus.SKIPPED, at)
    elif kind == "cell":
        execution.start_cell(epoch, waiting[0], at=at)
    elif kind == "truncated":
        execution.truncate_output(
            epoch, waiting[0], output_bytes=50_000_000, kept_bytes=20_000_000, at=at
        )
    else:
        execution.store_artifact(
            epoch,
            kind="dataset" if kind == "dataset" else "model",
            name="customers",
            file_name="customers.csv",
            content=Representation("text/csv", "0" * 64, 10),
            attributes={"recordCount": 15420, "newColumns": ["segment", "score"]},
            at=at,
        )
