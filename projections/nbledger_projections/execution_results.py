"""What an execution has put out: per cell and as files, one row each."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.execution import (
    TERMINAL_EVENTS,
    ArtifactKind,
    CellError,
    CellStatus,
    Execution,
    ExecutionStatus,
    Output,
    Representation,
)
from nbledger_infrastructure.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.event_store import RecordedEvent
from nbledger_infrastructure.repository import decode
from nbledger_projections import fresh
from nbledger_projections.decoding import (
    DELETED,
    REQUESTED,
    check_known,
    decode_as,
    deleted_notebooks,
    is_execution,
)
from nbledger_projections.execution_status import NOTEBOOK_EXISTS
from nbledger_projections.notebook_details import interrupted
from nbledger_projections.own_reports import is_own_report, is_print
from nbledger_projections.rows import Rows

NAME = "execution_results"

RECENT_OUTPUTS = 10_000
"""Of how many outputs together results are kept in memory where they are read; some 20 MB."""

OUTPUT_BYTES = 2_000
"""What is told of results counts as one more output for each so many bytes."""

_STATUSES = {event.TYPE: ExecutionStatus.ERROR for event in TERMINAL_EVENTS} | {
    Execution.Completed.TYPE: ExecutionStatus.COMPLETED,
    Execution.Cancelled.TYPE: ExecutionStatus.CANCELLED,
}

_TELLING = {
    REQUESTED,
    Execution.CellStarted.TYPE,
    Execution.CellExecuted.TYPE,
    Execution.OutputsSaved.TYPE,
    Execution.OutputsUpdated.TYPE,
    Execution.AttemptLost.TYPE,
    Execution.Warned.TYPE,
    Execution.OutputTruncated.TYPE,
    Execution.WidgetsStored.TYPE,
    Execution.ArtifactStored.TYPE,
    Execution.MetricsLogged.TYPE,
    *_STATUSES,
}
"""Types of events that change a row."""


class CellOutputs(msgspec.Struct, rename="camel", omit_defaults=True):
    """What a cell has put out, and what is kept of it.

    ``output_count`` and ``output_bytes`` are of all that came, ``outputs_digest`` as well;
    ``truncated`` says that ``outputs`` are not all. Without output they are 0 and ``None``.
    """

    cell_id: str
    status: CellStatus = CellStatus.PENDING
    outputs: list[Output] = []
    output_count: int = 0
    output_bytes: int = 0
    outputs_digest: str | None = None
    truncated: bool = False
    execution_count: int | None = None
    error: CellError | None = None

    @property
    def kept_bytes(self) -> int:
        """Bytes of the outputs in all their forms."""
        return sum(form.size for output in self.outputs for form in output.representations)


class Artifact(msgspec.Struct, frozen=True, rename="camel"):
    """What the run produced as a file, and in ``attributes`` what is known of it."""

    kind: ArtifactKind
    name: str
    file_name: str
    content: Representation
    attributes: dict[str, Any]


class Results(msgspec.Struct, rename="camel"):
    """Everything that was kept: code cells in the order of the notebook, files, and figures.

    ``metrics`` are those of the run; ``cell_metrics`` has for each cell what it told itself.
    ``widgets`` is what widgets show, as notebooks have it in their metadata. ``run_warnings``
    begin with ``request_warnings``, which hold for every attempt.
    """

    cells: list[CellOutputs]
    artifacts: list[Artifact] = []
    metrics: dict[str, float] = {}
    cell_metrics: dict[str, dict[str, float]] = {}
    notebook_version: str = ""
    widgets: Representation | None = None
    run_warnings: list[str] = []
    request_warnings: list[str] = []


class ResultsState(msgspec.Struct):
    """A row."""

    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    version: int
    updated_at: datetime
    status: str
    notebook_stream_version: int
    results: Results


class ResultsView(msgspec.Struct, frozen=True):
    """The results of an execution as of now.

    ``version`` counts the events of its stream; the last one was recorded at ``modified_at``.
    ``notebook_stream_version`` tells with which cells it ran.
    """

    execution_id: UUID
    notebook_id: UUID
    status: str
    version: int
    modified_at: datetime
    notebook_stream_version: int
    notebook_version: str
    cells: list[CellOutputs]
    artifacts: list[Artifact]
    metrics: dict[str, float]
    cell_metrics: dict[str, dict[str, float]]
    widgets: Representation | None = None
    run_warnings: list[str] = []


def fold(state: ResultsState | None, recorded: RecordedEvent) -> ResultsState | None:
    """The state after ``recorded``; ``None`` when there is no such execution.

    Takes ``state`` over: the caller must not use it afterwards. Raises
    :class:`UnknownEventTypeError`.
    """
    check_known(recorded)
    if recorded.data is None:
        return state  # erased: the deletion follows
    if recorded.type == REQUESTED:
        state = _requested(recorded)
    elif state is None:
        return None
    elif recorded.type in _TELLING:
        _tell(state, decode(recorded))
    state.version = recorded.version
    state.updated_at = recorded.recorded_at
    if recorded.type in _STATUSES:
        state.status = _STATUSES[recorded.type]
        for cell in state.results.cells:
            if cell.status is CellStatus.RUNNING:
                cell.status = interrupted(recorded.type)
            elif cell.status is CellStatus.PENDING:
                cell.status = CellStatus.SKIPPED
    return state


def _requested(recorded: RecordedEvent) -> ResultsState:
    event = decode_as(Execution.Requested, recorded)
    warnings = event.warnings or []
    return ResultsState(
        execution_id=recorded.stream_id,
        notebook_id=recorded.subject_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        version=recorded.version,
        updated_at=recorded.recorded_at,
        status=ExecutionStatus.RUNNING,
        notebook_stream_version=event.notebook_stream_version,
        results=Results(
            [CellOutputs(cell.cell_id) for cell in event.cells if cell.cell_type == "code"],
            notebook_version=event.notebook_version,
            run_warnings=list(warnings),
            request_warnings=list(warnings),
        ),
    )


def _tell(state: ResultsState, event: object) -> None:
    if isinstance(event, _OF_CELLS):
        for cell in state.results.cells:
            if cell.cell_id == event.cell_id:
                _tell_cell(cell, event)
    elif isinstance(event, Execution.AttemptLost):
        state.results = _anew(state.results) if event.restart else state.results
    elif isinstance(event, Execution.Warned):
        state.results.run_warnings.append(event.warning)
    elif isinstance(event, Execution.WidgetsStored):
        state.results.widgets = event.content
    elif isinstance(event, Execution.ArtifactStored):
        _keep(state.results.artifacts, event)
    elif isinstance(event, Execution.MetricsLogged):
        state.results.metrics |= event.metrics
        if event.cell_id is not msgspec.UNSET:
            of_cell = state.results.cell_metrics.setdefault(event.cell_id, {})
            of_cell |= event.metrics


def _anew(results: Results) -> Results:
    """What is known of a run before its next attempt."""
    return Results(
        [CellOutputs(cell.cell_id) for cell in results.cells],
        notebook_version=results.notebook_version,
        run_warnings=list(results.request_warnings),
        request_warnings=results.request_warnings,
    )


def _keep(artifacts: list[Artifact], event: Execution.ArtifactStored) -> None:
    """Add a file; the run's own report printed is another form of that report."""
    if is_print(event):
        for place, artifact in enumerate(artifacts):
            if artifact.kind == "report" and is_own_report(artifact.attributes):
                artifacts[place] = _with_form(artifact, event)
                return
    artifacts.append(
        Artifact(event.kind, event.name, event.file_name, event.content, event.attributes)
    )


def _with_form(artifact: Artifact, event: Execution.ArtifactStored) -> Artifact:
    further = {
        "role": event.attributes["format"],
        "fileName": event.file_name,
        "contentType": event.content.content_type,
        "digest": event.content.digest,
        "size": event.content.size,
    }
    before = artifact.attributes.get("alternatives", [])
    attributes = {**artifact.attributes, "alternatives": [*before, further]}
    return msgspec.structs.replace(artifact, attributes=attributes)


_OutputEvent = Execution.CellExecuted | Execution.OutputsSaved | Execution.OutputsUpdated
_OF_CELLS = _OutputEvent | Execution.CellStarted | Execution.OutputTruncated


def _tell_cell(
    cell: CellOutputs, event: _OutputEvent | Execution.CellStarted | Execution.OutputTruncated
) -> None:
    if isinstance(event, Execution.CellStarted):
        cell.status = CellStatus.RUNNING
        return
    if isinstance(event, Execution.OutputTruncated):
        cell.truncated = True
        return
    cell.outputs = event.outputs
    cell.output_count = event.output_count
    cell.output_bytes = event.output_bytes
    if isinstance(event, Execution.CellExecuted):
        cell.status = event.status
        cell.execution_count = event.execution_count
        cell.error = event.error
    if not isinstance(event, Execution.OutputsSaved):
        cell.outputs_digest = event.outputs_digest


_results_decoder = msgspec.json.Decoder(Results)
_encode = msgspec.json.Encoder().encode

_ROW = (
    "execution_id, notebook_id, tenant_id, project_id, version, updated_at, status, "
    "notebook_stream_version, results"
)

_LOAD = f"SELECT {_ROW} FROM execution_results WHERE execution_id = ANY($1)"  # noqa: S608 (constants)

_SAVE = f"""
INSERT INTO execution_results ({_ROW})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::integer[], $6::timestamptz[],
    $7::text[], $8::integer[], $9::json[]
)
ON CONFLICT (execution_id) DO UPDATE SET
    version = excluded.version, updated_at = excluded.updated_at, status = excluded.status,
    results = excluded.results
"""  # noqa: S608 (constants)

_DELETE = "DELETE FROM execution_results WHERE notebook_id = ANY($1)"

# With many outputs the results weigh most of all: they are left out where they are known.
_NEW = _ROW.replace("results", "CASE WHEN version = $5 THEN NULL ELSE results END AS results")

_GET = fresh.query(
    _ROW,
    f"""(
        SELECT {_NEW} FROM execution_results
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


class ExecutionResultsProjection:
    """The projection that keeps table ``execution_results``."""

    name: ClassVar[str] = NAME
    tables: ClassVar[tuple[str, ...]] = ("execution_results",)

    def __init__(self) -> None:
        self._rows: Rows[ResultsState] = Rows()
        # Notebooks deleted in this batch, and those known to be deleted sooner or later.
        self._gone: set[UUID] = set()
        self._doomed: set[UUID] = set()

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change into memory."""
        self._doomed = await deleted_notebooks(connection, events)
        telling = [
            recorded for recorded in events if is_execution(recorded) and recorded.type in _TELLING
        ]
        keys = self._rows.missing(recorded.stream_id for recorded in telling)
        new = {recorded.stream_id for recorded in telling if recorded.version == 1}
        known = [key for key in keys if key not in new]
        found = await connection.fetch(_LOAD, known) if known else []
        self._rows.fill(keys, {row["execution_id"]: _state(row) for row in found})

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type not in _TELLING:
            check_known(recorded)
            if recorded.type == DELETED:
                self._remove(recorded.subject_id)
            return
        if recorded.type == REQUESTED and recorded.subject_id in self._doomed:
            return
        state = fold(self._rows.get(recorded.stream_id), recorded)
        if state is not None:
            self._rows.put(recorded.stream_id, state)
            if recorded.type in _STATUSES:
                self._rows.let_go(recorded.stream_id)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        written, _ = self._rows.changes()
        if written:
            await connection.execute(_SAVE, *_columns(written))
        if self._gone:
            await connection.execute(_DELETE, sorted(self._gone))

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()
        self._gone.clear()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()
        self._gone.clear()

    def _remove(self, notebook_id: UUID) -> None:
        self._gone.add(notebook_id)
        self._rows.forget(
            [key for key, state in self._rows.states() if state.notebook_id == notebook_id]
        )


class RecentResults:
    """Results of ended executions that were read lately, so that they need not be read again.

    What it holds is only used after the database has said that it is still there and the same.
    """

    def __init__(self, *, max_outputs: int = RECENT_OUTPUTS) -> None:
        self._max = self._left = max_outputs
        self._views: OrderedDict[UUID, tuple[ResultsView, int]] = OrderedDict()

    def get(self, execution_id: UUID) -> ResultsView | None:
        """What was read of the execution, if it is still held."""
        held = self._views.get(execution_id)
        if held is None:
            return None
        self._views.move_to_end(execution_id)
        return held[0]

    def put(self, view: ResultsView) -> None:
        """Hold it, as long as there is room."""
        self.forget(view.execution_id)
        weight = _weight(view)
        if weight > self._max:
            return
        self._views[view.execution_id] = (view, weight)
        self._left -= weight
        while self._left < 0:
            self.forget(next(iter(self._views)))

    def forget(self, execution_id: UUID) -> None:
        """Hold it no longer."""
        held = self._views.pop(execution_id, None)
        if held is not None:
            self._left += held[1]


def _weight(view: ResultsView) -> int:
    outputs = [output for cell in view.cells for output in cell.outputs]
    told = (
        sum(len(_encode(output.metadata)) for output in outputs if output.metadata)
        + sum(len(_encode(artifact.attributes)) for artifact in view.artifacts)
        + sum(len(_encode(cell.error)) for cell in view.cells if cell.error is not None)
        + len(_encode((view.metrics, view.cell_metrics, view.run_warnings)))
    )
    pieces = 1 + len(view.cells) + len(view.artifacts) + len(outputs)
    return pieces + told // OUTPUT_BYTES


async def get(
    pool: Pool,
    tenant_id: UUID,
    project_id: UUID,
    notebook_id: UUID,
    execution_id: UUID,
    *,
    recent: RecentResults | None = None,
) -> ResultsView | None:
    """The results as of now; ``None`` when this notebook has no such execution, or is deleted.

    Whoever asks must leave what they get as it is: ``recent`` may hold it.
    """
    scope = (tenant_id, project_id, notebook_id, execution_id)
    held = None if recent is None else recent.get(execution_id)
    row, news = await _read(pool, *scope, known=None if held is None else held.version)
    if row is not None and row["results"] is None:
        if held is not None and not news:
            return held
        row, news = await _read(pool, *scope, known=None)
    state = None if row is None else _state(row)
    for recorded in news:
        state = fold(state, recorded)
    if recent is not None:
        recent.forget(execution_id)
    if state is None:
        return None
    view = ResultsView(
        execution_id=state.execution_id,
        notebook_id=state.notebook_id,
        status=state.status,
        version=state.version,
        modified_at=state.updated_at,
        notebook_stream_version=state.notebook_stream_version,
        notebook_version=state.results.notebook_version,
        cells=state.results.cells,
        artifacts=state.results.artifacts,
        metrics=state.results.metrics,
        cell_metrics=state.results.cell_metrics,
        widgets=state.results.widgets,
        run_warnings=state.results.run_warnings,
    )
    if recent is not None and not news and state.status != ExecutionStatus.RUNNING:
        recent.put(view)
    return view


async def _read(
    pool: Pool, *scope: UUID, known: int | None
) -> tuple[asyncpg.Record | None, list[RecordedEvent]]:
    """The row, its results left out at the version that is ``known``, and the events after it."""
    async with acquire(pool) as connection:
        found = await connection.fetch(_GET, *scope, known)
    return fresh.split(_ROW, found)


def _state(row: asyncpg.Record) -> ResultsState:
    return ResultsState(
        execution_id=row["execution_id"],
        notebook_id=row["notebook_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        version=row["version"],
        updated_at=row["updated_at"],
        status=row["status"],
        notebook_stream_version=row["notebook_stream_version"],
        results=_results_decoder.decode(row["results"]),
    )


def _columns(states: Sequence[ResultsState]) -> tuple[list[Any], ...]:
    """The states as the arrays that ``_SAVE`` takes."""
    return (
        [state.execution_id for state in states],
        [state.notebook_id for state in states],
        [state.tenant_id for state in states],
        [state.project_id for state in states],
        [state.version for state in states],
        [state.updated_at for state in states],
        [state.status for state in states],
        [state.notebook_stream_version for state in states],
        [_encode(state.results).decode() for state in states],
    )
