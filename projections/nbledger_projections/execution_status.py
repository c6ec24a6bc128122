"""An execution as the API shows it: one row each, folded from the events of its stream."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.execution import (
    CellRange,
    CellStatus,
    Execution,
    ExecutionStatus,
    Phase,
    Resources,
    TerminationCode,
)
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.event_store import RecordedEvent
from nbledger_infrastructure.repository import decode
from nbledger_projections import fresh, words
from nbledger_projections.decoding import (
    DELETED,
    REQUESTED,
    check_known,
    deleted_notebooks,
    is_execution,
)
from nbledger_projections.notebook_details import interrupted
from nbledger_projections.rows import Rows
from nbledger_projections.words import timestamp

NAME = "execution_status"

CACHED_ROWS = 5_000
"""How many executions, and how many notebooks' durations, a projector keeps in memory."""

REMEMBERED_DURATIONS = 5
"""From how many completed runs of a notebook the duration of the next one is estimated."""

_DONE = frozenset({CellStatus.SUCCESS, CellStatus.ERROR, CellStatus.TIMED_OUT, CellStatus.SKIPPED})
_FAILED = frozenset({CellStatus.ERROR, CellStatus.TIMED_OUT})

_VECTOR_PLOTS = ("application/vnd.plotly.", "application/vnd.vega.", "application/vnd.vegalite.")


class ProgressDocument(msgspec.Struct, rename="camel"):
    """How far the run is; ``current_cell_index`` counts from 1 and is told while it runs."""

    total_cells: int
    completed_cells: int = 0
    successful_cells: int = 0
    failed_cells: int = 0
    current_cell_index: int | UnsetType = UNSET
    percent_complete: int = 0


class CellResultDocument(msgspec.Struct, rename="camel"):
    """What has become of one cell of the plan; ``output_type`` is that of its first output."""

    cell_id: str
    status: str
    execution_time: str | UnsetType = UNSET
    has_output: bool = False
    output_type: str | UnsetType = UNSET
    error_type: str | UnsetType = UNSET
    error_message: str | UnsetType = UNSET


class EnrichedDataDocument(msgspec.Struct, rename="camel"):
    """What the datasets of the run add up to."""

    record_count: int
    new_columns: list[str]


class OutputsDocument(msgspec.Struct, rename="camel"):
    """How much the run has put out so far, by kind."""

    data_frames: int = 0
    plots: int = 0
    models: int = 0
    enriched_data: EnrichedDataDocument | UnsetType = UNSET


class ResourcesDocument(msgspec.Struct, rename="camel"):
    """What the run used, in words; null until it is known."""

    peak_memory_usage: str | None = None
    cpu_time: str | None = None
    disk_usage: str | None = None


class ErrorDocument(msgspec.Struct, rename="camel"):
    """Why the run failed."""

    termination_code: str
    detail: str


class ExecutionDocument(msgspec.Struct, kw_only=True, rename="camel"):
    """The body that ``GET …/execution/{executionId}`` answers with."""

    execution_id: str
    notebook_id: str
    notebook_version: str
    kernel_type: str
    status: str
    phase: str | UnsetType = UNSET
    start_time: str
    end_time: str | UnsetType = UNSET
    total_duration: str | UnsetType = UNSET
    estimated_duration: str
    current_cell: str | UnsetType | None = UNSET
    progress: ProgressDocument
    parameters: dict[str, Any]
    cell_range: CellRange | UnsetType = UNSET
    cell_results: list[CellResultDocument]
    outputs: OutputsDocument
    resources: ResourcesDocument
    attempts: int
    requested_by: str
    priority: str
    timeout: int | float
    cancel_requested: bool
    termination_code: str | UnsetType = UNSET
    error: ErrorDocument | UnsetType = UNSET


class ExecutionState(msgspec.Struct):
    """A row: the document, and what folding on needs besides.

    ``silent`` holds the cells that go to no kernel: they succeed in passing.
    """

    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    version: int
    requested_position: int
    requested_at: datetime
    updated_at: datetime
    started_at: datetime
    document: ExecutionDocument
    silent: list[str]

    @property
    def ended(self) -> bool:
        """Whether the terminal event has happened."""
        return self.document.status != ExecutionStatus.RUNNING


class ExecutionView(msgspec.Struct, frozen=True):
    """An execution as it is at this moment: the JSON body, and its place in the store.

    ``version`` counts the events of its stream, ``position`` is that of the last one, which
    was recorded at ``modified_at``.
    """

    execution_id: UUID
    notebook_id: UUID
    document: bytes
    position: int
    version: int
    modified_at: datetime
    ended: bool


class ExecutionPage(msgspec.Struct, frozen=True):
    """Executions of a notebook, newest first, and what they were read from.

    ``items`` are JSON objects, ``position`` is the checkpoint of the projection.
    """

    items: list[bytes]
    total_count: int
    position: int


def fold(
    state: ExecutionState | None, recorded: RecordedEvent, *, earlier: Sequence[float] = ()
) -> ExecutionState | None:
    """The state after ``recorded``; ``None`` when there is no such execution.

    ``earlier`` holds the seconds that earlier completed runs of the notebook took; a new
    execution is estimated by it. Takes ``state`` over: the caller must not use it afterwards.
    Raises :class:`UnknownEventTypeError`.
    """
    check_known(recorded)
    if recorded.data is None:
        return state  # erased: the deletion follows
    if recorded.type == REQUESTED:
        state = _requested(recorded, earlier)
    elif state is None:
        return None
    else:
        handler = _HANDLERS.get(recorded.type)
        if handler is not None:
            handler(state, recorded, decode(recorded))
    state.position = recorded.position
    state.version = recorded.version
    state.updated_at = recorded.recorded_at
    if not state.ended:
        _point_at_current(state)
    return state


def duration(state: ExecutionState, terminal: RecordedEvent) -> float:
    """Seconds from acceptance to the end."""
    return (terminal.occurred_at - state.started_at).total_seconds()


def remember(durations: Sequence[float], seconds: float) -> list[float]:
    """The last few durations, with one more."""
    return [*durations, seconds][-REMEMBERED_DURATIONS:]


def _requested(recorded: RecordedEvent, earlier: Sequence[float]) -> ExecutionState:
    event = decode(recorded)
    assert isinstance(event, Execution.Requested)  # noqa: S101 (the registry maps the type so)
    return ExecutionState(
        execution_id=recorded.stream_id,
        notebook_id=recorded.subject_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        position=recorded.position,
        version=recorded.version,
        requested_position=recorded.position,
        requested_at=recorded.recorded_at,
        updated_at=recorded.recorded_at,
        started_at=recorded.occurred_at,
        silent=[cell.cell_id for cell in event.cells if cell.cell_type != "code"],
        document=ExecutionDocument(
            execution_id=str(recorded.stream_id),
            notebook_id=str(recorded.subject_id),
            notebook_version=event.notebook_version,
            kernel_type=event.kernel_type,
            status=ExecutionStatus.RUNNING,
            phase=Phase.QUEUED,
            start_time=timestamp(recorded.occurred_at),
            estimated_duration=words.estimate(earlier),
            progress=ProgressDocument(total_cells=len(event.cells)),
            parameters=event.parameters,
            cell_range=event.cell_range or UNSET,
            cell_results=[
                CellResultDocument(cell_id=cell.cell_id, status=CellStatus.PENDING)
                for cell in event.cells
            ],
            outputs=OutputsDocument(),
            resources=ResourcesDocument(),
            attempts=0,
            requested_by=event.requested_by,
            priority=event.options.priority,
            timeout=_plain(event.options.timeout),
            cancel_requested=False,
        ),
    )


def _plain(number: float) -> int | float:
    """A whole number without a fraction, as it was most likely given."""
    return int(number) if number.is_integer() else number


def _claimed(state: ExecutionState, _: RecordedEvent, event: Execution.Claimed) -> None:
    state.document.attempts = event.epoch
    state.document.phase = Phase.STARTING


def _started(state: ExecutionState, _: RecordedEvent, __: object) -> None:
    state.document.phase = Phase.EXECUTING


def _attempt_lost(state: ExecutionState, _: RecordedEvent, event: Execution.AttemptLost) -> None:
    if not event.restart:
        return
    document = state.document
    document.phase = Phase.QUEUED
    document.progress = ProgressDocument(total_cells=document.progress.total_cells)
    document.cell_results = [
        CellResultDocument(cell_id=cell.cell_id, status=CellStatus.PENDING)
        for cell in document.cell_results
    ]
    document.outputs = OutputsDocument()


def _cancel_requested(state: ExecutionState, _: RecordedEvent, __: object) -> None:
    state.document.cancel_requested = True


def _cell_started(state: ExecutionState, _: RecordedEvent, event: Execution.CellStarted) -> None:
    _pass_silent(state, before=event.cell_id)
    cell = _find(state, event.cell_id)
    if cell is not None:
        cell.status = CellStatus.RUNNING


def _cell_executed(state: ExecutionState, _: RecordedEvent, event: Execution.CellExecuted) -> None:
    _pass_silent(state, before=event.cell_id)
    cell = _find(state, event.cell_id)
    if cell is None:
        return
    cell.execution_time = words.duration(event.duration)
    cell.has_output = event.output_count > 0
    if event.outputs:
        cell.output_type = event.outputs[0].output_type
    if event.error is not None:
        cell.error_type = event.error.error_type
        cell.error_message = event.error.error_message
    _finish(state, cell, event.status)
    outputs = state.document.outputs
    for output in event.outputs:
        if output.metadata.get("dataFrame") is True:
            outputs.data_frames += 1
        if any(is_plot(form.content_type) for form in output.representations):
            outputs.plots += 1


def is_plot(content_type: str) -> bool:
    """Whether output of this media type is a picture or a chart."""
    return content_type.startswith(("image/", *_VECTOR_PLOTS))


def _artifact_stored(
    state: ExecutionState, _: RecordedEvent, event: Execution.ArtifactStored
) -> None:
    outputs = state.document.outputs
    if event.kind == "model":
        outputs.models += 1
    elif event.kind == "dataset":
        count = event.attributes.get("recordCount", 0)
        columns = event.attributes.get("newColumns", [])
        before = outputs.enriched_data or EnrichedDataDocument(0, [])
        outputs.enriched_data = EnrichedDataDocument(
            before.record_count + (count if isinstance(count, int) else 0),
            list(dict.fromkeys([*before.new_columns, *columns])),
        )


def _completed(state: ExecutionState, recorded: RecordedEvent, event: Execution.Completed) -> None:
    _pass_silent(state)
    _end(state, recorded, ExecutionStatus.COMPLETED, TerminationCode.SUCCESS, event.resources)


def _failed(
    state: ExecutionState, recorded: RecordedEvent, event: Execution.Failed | Execution.TimedOut
) -> None:
    _fail(state, recorded, event.reason, event.detail, event.resources)


def _kernel_died(
    state: ExecutionState, recorded: RecordedEvent, event: Execution.KernelDied
) -> None:
    _fail(state, recorded, TerminationCode.KERNEL_DIED, event.detail, event.resources)


def _cancelled(state: ExecutionState, recorded: RecordedEvent, event: Execution.Cancelled) -> None:
    _end(state, recorded, ExecutionStatus.CANCELLED, event.reason, event.resources)


def _fail(
    state: ExecutionState,
    recorded: RecordedEvent,
    code: TerminationCode,
    detail: str,
    resources: Resources,
) -> None:
    state.document.error = ErrorDocument(code, detail)
    for cell in state.document.cell_results:
        if cell.status == CellStatus.RUNNING:
            cell.error_type = code
            cell.error_message = detail
    _end(state, recorded, ExecutionStatus.ERROR, code, resources)


def _end(
    state: ExecutionState,
    recorded: RecordedEvent,
    status: ExecutionStatus,
    code: TerminationCode,
    resources: Resources,
) -> None:
    document = state.document
    for cell in document.cell_results:
        if cell.status == CellStatus.RUNNING:
            _finish(state, cell, interrupted(recorded.type))
        elif cell.status == CellStatus.PENDING:
            cell.status = CellStatus.SKIPPED
    document.status = status
    document.phase = UNSET
    document.termination_code = code
    document.end_time = timestamp(recorded.occurred_at)
    document.total_duration = words.duration(duration(state, recorded))
    document.current_cell = UNSET
    document.progress.current_cell_index = UNSET
    document.resources = ResourcesDocument(
        None if resources.peak_memory_bytes is None else words.size(resources.peak_memory_bytes),
        None if resources.cpu_seconds is None else words.duration(resources.cpu_seconds),
        None if resources.disk_bytes is None else words.size(resources.disk_bytes),
    )


def _finish(state: ExecutionState, cell: CellResultDocument, status: CellStatus) -> None:
    """Set the status that the cell keeps, and count it."""
    cell.status = status
    progress = state.document.progress
    progress.completed_cells += status in _DONE
    progress.successful_cells += status == CellStatus.SUCCESS
    progress.failed_cells += status in _FAILED
    # Half up: round() would take 12.5 to 12.
    progress.percent_complete = (200 * progress.completed_cells + progress.total_cells) // (
        2 * progress.total_cells
    )


def _pass_silent(state: ExecutionState, *, before: str | None = None) -> None:
    """Let cells that go to no kernel succeed: those ``before`` a cell, or all."""
    if not state.silent:
        return
    silent = set(state.silent)
    for cell in state.document.cell_results:
        if cell.cell_id == before:
            break
        if cell.cell_id in silent and cell.status == CellStatus.PENDING:
            cell.execution_time = words.duration(0.0)
            _finish(state, cell, CellStatus.SUCCESS)


def _point_at_current(state: ExecutionState) -> None:
    """Tell where the run is: at the running cell, else at the first one that waits."""
    document = state.document
    waiting: int | None = None
    for index, cell in enumerate(document.cell_results, 1):
        if cell.status == CellStatus.RUNNING:
            waiting = index
            break
        if waiting is None and cell.status == CellStatus.PENDING:
            waiting = index
    document.progress.current_cell_index = waiting or document.progress.total_cells
    document.current_cell = None if waiting is None else document.cell_results[waiting - 1].cell_id


def _find(state: ExecutionState, cell_id: str) -> CellResultDocument | None:
    for cell in state.document.cell_results:
        if cell.cell_id == cell_id:
            return cell
    return None


_HANDLERS: dict[str, Callable[[ExecutionState, RecordedEvent, Any], None]] = {
    Execution.Claimed.TYPE: _claimed,
    Execution.Started.TYPE: _started,
    Execution.CellStarted.TYPE: _cell_started,
    Execution.CellExecuted.TYPE: _cell_executed,
    Execution.ArtifactStored.TYPE: _artifact_stored,
    Execution.CancelRequested.TYPE: _cancel_requested,
    Execution.AttemptLost.TYPE: _attempt_lost,
    Execution.Completed.TYPE: _completed,
    Execution.Failed.TYPE: _failed,
    Execution.TimedOut.TYPE: _failed,
    Execution.KernelDied.TYPE: _kernel_died,
    Execution.Cancelled.TYPE: _cancelled,
}


_document_decoder = msgspec.json.Decoder(ExecutionDocument)
_encode = msgspec.json.Encoder().encode

_ROW = (
    "execution_id, notebook_id, tenant_id, project_id, position, version, requested_position, "
    "requested_at, updated_at, started_at, ended, phase, kernel_type, epoch, document, silent"
)

_LOAD = f"SELECT {_ROW} FROM execution_status WHERE execution_id = ANY($1)"  # noqa: S608 (constants)

_SAVE = f"""
INSERT INTO execution_status ({_ROW})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::integer[], $7::bigint[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::boolean[], $12::text[],
    $13::text[], $14::integer[], $15::json[], $16::json[]
)
ON CONFLICT (execution_id) DO UPDATE SET
    position = excluded.position, version = excluded.version, updated_at = excluded.updated_at,
    ended = excluded.ended, phase = excluded.phase, epoch = excluded.epoch,
    document = excluded.document, silent = excluded.silent
"""  # noqa: S608 (constants)

_DELETE = "DELETE FROM execution_status WHERE notebook_id = ANY($1)"

_LOAD_DURATIONS = "SELECT notebook_id, seconds FROM notebook_duration WHERE notebook_id = ANY($1)"

_SAVE_DURATIONS = """
INSERT INTO notebook_duration (notebook_id, seconds) VALUES ($1, $2)
ON CONFLICT (notebook_id) DO UPDATE SET seconds = excluded.seconds
"""

_DELETE_DURATIONS = "DELETE FROM notebook_duration WHERE notebook_id = ANY($1)"

NOTEBOOK_EXISTS = f"""
    (SELECT type FROM event WHERE stream_id = $3 ORDER BY version DESC LIMIT 1)
        NOT IN ('{DELETED}', '{Notebook.DeletionRequested.TYPE}')
"""  # noqa: S608 (constants)
"""Condition of queries for an execution of notebook $3: a deletion acts as soon as it is asked."""

_GET = fresh.query(
    _ROW,
    f"""(
        SELECT {_ROW} FROM execution_status
        WHERE execution_id = $4 AND notebook_id = $3 AND tenant_id = $1 AND project_id = $2
            AND {NOTEBOOK_EXISTS}
    )""",  # noqa: S608 (constants)
    events=f"""
        e.stream_id = $4 AND e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
        AND e.stream_id <> e.subject_id
        AND e.version > coalesce(d.version, 0) AND {NOTEBOOK_EXISTS}
    """,
    order="version",
)

# The seconds of earlier runs: those the projection has seen, and those completed since.
_EARLIER = """
SELECT coalesce((SELECT seconds FROM notebook_duration WHERE notebook_id = $1), '{}')
    || ARRAY(
        SELECT extract(epoch FROM ended.occurred_at - requested.occurred_at)::double precision
        FROM event AS ended
        JOIN event AS requested ON requested.stream_id = ended.stream_id AND requested.version = 1
        WHERE ended.subject_id = $1 AND ended.type = $2 AND ended.position < $3
            AND ended.position > coalesce(
                (SELECT position FROM projection_checkpoint WHERE name = $4), 0
            )
        ORDER BY ended.position
    )
"""

_PAGE = """
SELECT
    (SELECT count(*) FROM execution_status
     WHERE tenant_id = $1 AND project_id = $2 AND notebook_id = $3) AS total,
    (SELECT position FROM projection_checkpoint WHERE name = $6) AS position,
    ARRAY(
        SELECT document FROM execution_status
        WHERE tenant_id = $1 AND project_id = $2 AND notebook_id = $3
        ORDER BY requested_position DESC LIMIT $4 OFFSET $5
    ) AS documents
"""


class ExecutionStatusProjection:
    """The projection that keeps tables ``execution_status`` and ``notebook_duration``."""

    name: ClassVar[str] = NAME
    tables: ClassVar[tuple[str, ...]] = ("execution_status", "notebook_duration")

    def __init__(self) -> None:
        self._rows: Rows[ExecutionState] = Rows(CACHED_ROWS)
        self._durations: Rows[tuple[UUID, list[float]]] = Rows(CACHED_ROWS)
        # Notebooks deleted in this batch, and those known to be deleted sooner or later.
        self._gone: set[UUID] = set()
        self._doomed: set[UUID] = set()

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change, or depend on, into memory."""
        self._doomed = await deleted_notebooks(connection, events)
        executing = [recorded for recorded in events if is_execution(recorded)]
        keys = self._rows.missing(recorded.stream_id for recorded in executing)
        new = {recorded.stream_id for recorded in executing if recorded.version == 1}
        known = [key for key in keys if key not in new]
        found = await connection.fetch(_LOAD, known) if known else []
        self._rows.fill(keys, {row["execution_id"]: _state(row) for row in found})
        notebooks = self._durations.missing(
            recorded.subject_id
            for recorded in executing
            if recorded.type in {REQUESTED, Execution.Completed.TYPE}
        )
        rows = await connection.fetch(_LOAD_DURATIONS, notebooks) if notebooks else []
        self._durations.fill(notebooks, {row[0]: (row[0], row[1]) for row in rows})

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if not is_execution(recorded):
            check_known(recorded)
            if recorded.type == DELETED:
                self._remove(recorded.subject_id)
            return
        notebook_id = recorded.subject_id
        earlier: Sequence[float] = ()
        if recorded.type == REQUESTED:
            if notebook_id in self._doomed:
                return
            known = self._durations.get(notebook_id)
            earlier = () if known is None else known[1]
        state = fold(self._rows.get(recorded.stream_id), recorded, earlier=earlier)
        if state is None:
            return
        self._rows.put(recorded.stream_id, state)
        if recorded.type == Execution.Completed.TYPE and recorded.data is not None:
            known = self._durations.get(notebook_id)
            seconds = remember(() if known is None else known[1], duration(state, recorded))
            self._durations.put(notebook_id, (notebook_id, seconds))

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        written, _ = self._rows.changes()
        if written:
            await connection.execute(_SAVE, *_columns(written))
        durations, _ = self._durations.changes()
        if durations:
            await connection.executemany(_SAVE_DURATIONS, durations)
        if self._gone:
            gone = sorted(self._gone)
            await connection.execute(_DELETE, gone)
            await connection.execute(_DELETE_DURATIONS, gone)

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()
        self._durations.settle()
        self._gone.clear()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()
        self._durations.clear()
        self._gone.clear()

    def _remove(self, notebook_id: UUID) -> None:
        self._gone.add(notebook_id)
        self._durations.forget([notebook_id])
        self._rows.forget(
            [key for key, state in self._rows.states() if state.notebook_id == notebook_id]
        )


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, execution_id: UUID
) -> ExecutionView | None:
    """The execution as of now; ``None`` when this notebook has none such, or is deleted."""
    async with acquire(pool) as connection:
        found = await connection.fetch(_GET, tenant_id, project_id, notebook_id, execution_id)
        row, news = fresh.split(_ROW, found)
        if not news:
            return None if row is None else _stored_view(row)
        earlier: Sequence[float] = ()
        if row is None:
            earlier = await connection.fetchval(
                _EARLIER, notebook_id, Execution.Completed.TYPE, news[0].position, NAME
            )
    state = None if row is None else _state(row)
    for recorded in news:
        state = fold(state, recorded, earlier=earlier[-REMEMBERED_DURATIONS:])
    if state is None:
        return None
    return ExecutionView(
        execution_id=state.execution_id,
        notebook_id=state.notebook_id,
        document=_encode(state.document),
        position=state.position,
        version=state.version,
        modified_at=state.updated_at,
        ended=state.ended,
    )


async def for_notebook(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, *, page: int, page_size: int
) -> ExecutionPage:
    """A page (counted from 1) of the notebook's executions, without what each cell did."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            _PAGE, tenant_id, project_id, notebook_id, page_size, (page - 1) * page_size, NAME
        )
    assert row is not None  # noqa: S101 (a query of scalars has one row)
    return ExecutionPage(
        items=[_summary(document) for document in row["documents"]],
        total_count=row["total"],
        position=row["position"] or 0,
    )


def _summary(document: str) -> bytes:
    members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    del members["cellResults"]
    return _encode(members)


def _stored_view(row: asyncpg.Record) -> ExecutionView:
    return ExecutionView(
        execution_id=row["execution_id"],
        notebook_id=row["notebook_id"],
        document=row["document"].encode(),
        position=row["position"],
        version=row["version"],
        modified_at=row["updated_at"],
        ended=row["ended"],
    )


def _state(row: asyncpg.Record) -> ExecutionState:
    return ExecutionState(
        execution_id=row["execution_id"],
        notebook_id=row["notebook_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        position=row["position"],
        version=row["version"],
        requested_position=row["requested_position"],
        requested_at=row["requested_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        document=_document_decoder.decode(row["document"]),
        silent=msgspec.json.decode(row["silent"], type=list[str]),
    )


def _columns(states: Sequence[ExecutionState]) -> tuple[list[Any], ...]:
    """The states as the arrays that ``_SAVE`` takes."""
    return (
        [state.execution_id for state in states],
        [state.notebook_id for state in states],
        [state.tenant_id for state in states],
        [state.project_id for state in states],
        [state.position for state in states],
        [state.version for state in states],
        [state.requested_position for state in states],
        [state.requested_at for state in states],
        [state.updated_at for state in states],
        [state.started_at for state in states],
        [state.ended for state in states],
        [None if state.document.phase is UNSET else state.document.phase for state in states],
        [state.document.kernel_type for state in states],
        [state.document.attempts for state in states],
        [_encode(state.document).decode() for state in states],
        [_encode(state.silent).decode() for state in states],
    )
