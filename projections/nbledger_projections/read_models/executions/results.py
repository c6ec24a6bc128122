"""What an execution has put out: per cell and as files, one row each."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.execution import (
    ExecutionStatus,
    Representation,
)
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery import fresh_reads as fresh
from nbledger_projections.machinery.decoding import (
    DELETED,
    REQUESTED,
    check_known,
    deleted_notebooks,
    is_execution,
)
from nbledger_projections.machinery.rows import Rows
from nbledger_projections.read_models.executions.result_folding import (
    OUTPUT_BYTES,
    STATUSES,
    TELLING,
    Artifact,
    CellOutputs,
    Results,
    ResultsState,
    fold,
)
from nbledger_projections.read_models.executions.status import NOTEBOOK_EXISTS

NAME = "execution_results"

RECENT_OUTPUTS = 10_000
"""Of how many outputs together results are kept in memory where they are read; some 20 MB."""


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
            recorded for recorded in events if is_execution(recorded) and recorded.type in TELLING
        ]
        keys = self._rows.missing(recorded.stream_id for recorded in telling)
        new = {recorded.stream_id for recorded in telling if recorded.version == 1}
        known = [key for key in keys if key not in new]
        found = await connection.fetch(_LOAD, known) if known else []
        self._rows.fill(keys, {row["execution_id"]: _state(row) for row in found})

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type not in TELLING:
            check_known(recorded)
            if recorded.type == DELETED:
                self._remove(recorded.subject_id)
            return
        if recorded.type == REQUESTED and recorded.subject_id in self._doomed:
            return
        state = fold(self._rows.get(recorded.stream_id), recorded)
        if state is not None:
            self._rows.put(recorded.stream_id, state)
            if recorded.type in STATUSES:
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
