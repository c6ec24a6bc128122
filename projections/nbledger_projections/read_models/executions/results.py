"""What an execution has put out: per cell and as files, one row each."""

from collections import OrderedDict
from datetime import datetime
from operator import attrgetter
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.execution import ExecutionStatus, Representation
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.fresh_reads import FreshRead
from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.read_models.executions.projection import (
    EVENTS,
    ROW,
    ExecutionsProjection,
)
from nbledger_projections.read_models.executions.result_folding import (
    OUTPUT_BYTES,
    Artifact,
    CellOutputs,
    ResultsState,
    fold,
)

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


_encode = msgspec.json.Encoder().encode

MODEL = ReadModel(
    NAME,
    ResultsState,
    key="execution_id",
    key_of=attrgetter("stream_id"),
    fold=fold,
    projection=ExecutionsProjection,
)

# With many outputs the results weigh most of all: they are left out where they are known.
_NEW = MODEL.table.columns.replace(
    "results", "CASE WHEN version = $5 THEN NULL ELSE results END AS results"
)

_GET = FreshRead(
    MODEL,
    f"(SELECT {_NEW} FROM execution_results WHERE {ROW})",  # noqa: S608 (constants)
    events=EVENTS,
    order="version",
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
    state = _GET.fold(row, news)
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
        record, is_there, news = await _GET.fetch(connection, *scope, known)
    return record if is_there else None, news
