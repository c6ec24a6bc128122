"""The statuses of executions: one row each, kept up to date and read fresh."""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import (
    CellRange,
    Execution,
    ExecutionStatus,
    Phase,
    Resources,
)
from nbledger_domain.execution.usual_durations import Runs, remember, span
from nbledger_domain.notices import run_notice_id
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery import quantities
from nbledger_projections.machinery.decoding import REQUESTED
from nbledger_projections.machinery.documents import Page
from nbledger_projections.machinery.fresh_reads import FreshRead
from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.machinery.rows import Rows
from nbledger_projections.machinery.snapshots import SnapshotTable
from nbledger_projections.read_models.executions import listed
from nbledger_projections.read_models.executions.documents import ExecutionDocument
from nbledger_projections.read_models.executions.duration_warning import warn_of_duration
from nbledger_projections.read_models.executions.folding import duration, fold
from nbledger_projections.read_models.executions.projection import (
    EVENTS,
    ROW,
    ExecutionsProjection,
)
from nbledger_projections.read_models.executions.repetitions.links import (
    REPETITIONS,
    repetitions,
)
from nbledger_projections.read_models.executions.resources import resources_document
from nbledger_projections.read_models.executions.state import ExecutionRow

NAME = "execution_status"

CACHED_DURATIONS = 500_000
"""About how much memory the durations of notebooks take that a projector keeps."""


class ExecutionView(msgspec.Struct, frozen=True):
    """An execution as it is at this moment: the JSON body, and its place in the store.

    ``version`` counts the events of its stream, ``position`` is that of the last one, which
    was recorded at ``modified_at``, if the worker has not told later (``used_at``) what the run
    uses. ``waits`` says that no worker has it, ``repeated`` how often it was run again, ``slow``
    that it was told to take longer than usual.
    """

    execution_id: UUID
    notebook_id: UUID
    document: bytes
    position: int
    version: int
    modified_at: datetime
    ended: bool
    used_at: datetime | None = None
    waits: bool = False
    repeated: int = 0
    slow: bool = False


class _Request(msgspec.Struct, rename="camel"):
    """What a request to execute says of what is to run."""

    cell_range: CellRange | None = None


COMPLETED = Execution.Completed.TYPE
STORED_REQUESTED = EVENT_TYPES.stored_names(Execution.Requested.TYPE)

_decode_usage = msgspec.json.Decoder(Resources).decode
_decode_runs = msgspec.json.Decoder(dict[str, list[float]]).decode
_decode_request = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode

_LOAD_DURATIONS = "SELECT notebook_id, runs FROM notebook_duration WHERE notebook_id = ANY($1)"

_SAVE_DURATIONS = """
INSERT INTO notebook_duration (notebook_id, runs) VALUES ($1, $2)
ON CONFLICT (notebook_id) DO UPDATE SET runs = excluded.runs
"""

_DELETE_DURATIONS = "DELETE FROM notebook_duration WHERE notebook_id = ANY($1)"

# How long earlier runs took, as far as the projection knows it, and those completed since.
_EARLIER = """
SELECT
    (SELECT runs FROM notebook_duration WHERE notebook_id = $1) AS runs,
    array_agg(requested.data ORDER BY ended.position) AS requests,
    array_agg(
        extract(epoch FROM ended.occurred_at - requested.occurred_at)::double precision
        ORDER BY ended.position
    ) AS seconds
FROM event AS ended
JOIN event AS requested ON requested.stream_id = ended.stream_id AND requested.version = 1
WHERE ended.subject_id = $1 AND ended.type = ANY($2) AND ended.position < $3
    AND ended.position > coalesce((SELECT position FROM projection_checkpoint WHERE name = $4), 0)
    AND requested.data IS NOT NULL
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


class ExecutionStatusProjection(ExecutionsProjection[ExecutionRow]):
    """Keeps ``execution_status``, and ``notebook_duration`` by which runs are estimated."""

    def __init__(self, model: ReadModel[ExecutionRow]) -> None:
        super().__init__(model)
        self._runs: Rows[Runs] = Rows(CACHED_DURATIONS)
        # Executions whose row in the list changes in this batch, and those that are new to it.
        self._listed: set[UUID] = set()
        self._requested: set[UUID] = set()

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change, or depend on, into memory."""
        await super().load(connection, events)
        notebooks = self._runs.missing(
            recorded.subject_id for recorded in events if recorded.type in (REQUESTED, COMPLETED)
        )
        rows = await connection.fetch(_LOAD_DURATIONS, notebooks) if notebooks else []
        self._runs.fill(notebooks, {row[0]: _decode_runs(row[1]) for row in rows})

    def _fold(self, row: ExecutionRow | None, recorded: RecordedEvent) -> ExecutionRow | None:
        if recorded.type in listed.CHANGING:
            self._listed.add(recorded.stream_id)
        if recorded.type == REQUESTED:
            self._requested.add(recorded.stream_id)
            return fold(row, recorded, earlier=self._runs.get(recorded.subject_id))
        state = fold(row, recorded)
        if state is not None and recorded.type == COMPLETED and recorded.data is not None:
            earlier = self._runs.get(recorded.subject_id) or {}
            covered = span(state.document.cell_range)
            runs = remember(earlier, covered, duration(state, recorded))
            self._runs.put(recorded.subject_id, runs)
        return state

    def _remove(self, notebook_id: UUID) -> None:
        super()._remove(notebook_id)
        self._runs.forget([notebook_id])

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        await super().save(connection)
        changed = [state for state in self._rows.changes()[0] if state.execution_id in self._listed]
        await listed.save(connection, changed, self._requested)
        if runs := self._runs.changed():
            rows = [(key, _encode(each).decode()) for key, each in runs]
            await connection.executemany(_SAVE_DURATIONS, rows)
        if self._gone:
            await connection.execute(_DELETE_DURATIONS, sorted(self._gone))
            await listed.remove(connection, sorted(self._gone))

    def settle(self) -> None:
        """What was saved is committed."""
        super().settle()
        self._runs.settle()
        self._forget()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        super().reset()
        self._runs.clear()
        self._forget()

    def _forget(self) -> None:
        self._listed.clear()
        self._requested.clear()


def _repeats_as(row: ExecutionRow) -> str | None:
    cause = row.document.cause
    return None if cause.execution_id is None else cause.kind


def _succeeded(row: ExecutionRow) -> str | None:
    """What a completed execution covered."""
    if row.document.status != ExecutionStatus.COMPLETED:
        return None
    return span(row.document.cell_range)


MODEL = ReadModel(
    NAME,
    ExecutionRow,
    key="execution_id",
    key_of=attrgetter("stream_id"),
    fold=fold,
    types=[each for each in EVENT_TYPES.classes if each.startswith("execution.")],
    computed={
        "repeats": ("uuid", lambda row: row.document.cause.execution_id),
        "repeats_as": ("text", _repeats_as),
        "succeeded": ("text", _succeeded),
    },
    tables=(listed.TAGS, listed.LIST, NAME, "notebook_duration"),
    projection=ExecutionStatusProjection,
    snapshots=SnapshotTable(
        "execution_snapshot", ExecutionRow, key="execution_id", owner="notebook_id"
    ),
)

_GET = FreshRead(
    MODEL,
    f"""(
        SELECT s.*, l.usage, l.used_at, {REPETITIONS} AS repetitions, n.data AS slow,
            n.type AS slow_type, n.occurred_at AS slow_at
        FROM (SELECT) AS one
        LEFT JOIN (SELECT * FROM execution_status WHERE {ROW}) AS s ON true
        LEFT JOIN execution_usage AS l ON l.execution_id = $4
        LEFT JOIN event AS n ON n.stream_id = $7 AND n.version = 1
    )""",  # noqa: S608 (constants)
    events=EVENTS,
    order="version",
    # With what the run uses at the moment: no event tells it, the view execution_usage does. Nor
    # do its own events tell of the runs that repeat it, or that it takes longer than usual.
    columns=f"{MODEL.table.columns}, usage, used_at, repetitions, slow, slow_type, slow_at",
)


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, execution_id: UUID
) -> ExecutionView | None:
    """The execution as of now; ``None`` when this notebook has none such, or is deleted."""
    async with acquire(pool) as connection:
        record, is_there, news = await _GET.fetch(
            connection,
            tenant_id,
            project_id,
            notebook_id,
            execution_id,
            STORED_REQUESTED,
            NAME,
            run_notice_id(execution_id),
        )
        earlier: Runs | None = None
        if news and not is_there:
            earlier = await earlier_runs(connection, notebook_id, news[0].position)
    state = _GET.fold(record if is_there else None, news, earlier=earlier)
    if state is None:
        return None
    usage, used_at = record["usage"], record["used_at"]
    if state.ended:
        used_at = None
    elif usage is not None:
        state.document.resources = resources_document(_decode_usage(usage))
    return view_of(state, record, used_at=used_at)


def view_of(
    state: ExecutionRow, record: asyncpg.Record, *, used_at: datetime | None = None
) -> ExecutionView:
    """The view of a row with what its own events do not tell, which is in ``record``.

    That are its ``repetitions``, and the notice that it takes longer than usual (``slow``,
    ``slow_type``, ``slow_at``).
    """
    execution_id, slow_at = state.execution_id, record["slow_at"]
    state.document.repetitions = repetitions(record["repetitions"], execution_id) or UNSET
    if record["slow"] is not None:
        told = record["slow"].encode(), record["slow_type"], slow_at
        warn_of_duration(state.document, execution_id, *told)
    return ExecutionView(
        execution_id=execution_id,
        notebook_id=state.notebook_id,
        document=quantities.encode_in_words(state.document),
        position=state.position,
        version=state.version,
        modified_at=max(filter(None, (state.updated_at, used_at, slow_at))),
        ended=state.ended,
        used_at=used_at,
        waits=state.document.phase == Phase.QUEUED,
        repeated=len(state.document.repetitions or ()),
        slow=record["slow"] is not None,
    )


async def earlier_runs(
    connection: PooledConnection, notebook_id: UUID, before: int, *, projected: bool = True
) -> Runs:
    """How long the runs took that had completed before a position.

    By what is ``projected`` of them and the events since, or by all events.
    """
    completed = EVENT_TYPES.stored_names(Execution.Completed.TYPE)
    name = NAME if projected else ""
    found = await connection.fetchrow(_EARLIER, notebook_id, completed, before, name)
    assert found is not None  # noqa: S101 (a query of scalars has one row)
    runs: Runs = {} if found["runs"] is None else _decode_runs(found["runs"])
    for request, seconds in zip(found["requests"] or (), found["seconds"] or (), strict=True):
        runs = remember(runs, span(_decode_request(request).cell_range), seconds)
    return runs


async def for_notebook(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, *, page: int, page_size: int
) -> Page:
    """A page (counted from 1) of the notebook's executions, without what each cell did."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            _PAGE, tenant_id, project_id, notebook_id, page_size, (page - 1) * page_size, NAME
        )
    assert row is not None  # noqa: S101 (a query of scalars has one row)
    return Page(
        items=[summary(document) for document in row["documents"]],
        total_count=row["total"],
        position=row["position"] or 0,
    )


_DETAILED = ("cell_results", "attempt_history", "repetitions", "duration_warning")
"""What a list leaves out, or does not know."""

_Summary = msgspec.defstruct(
    "_Summary",
    [
        (
            field.name,
            field.type,
            field.default
            if field.default_factory is msgspec.NODEFAULT
            else msgspec.field(default_factory=field.default_factory),
        )
        for field in msgspec.structs.fields(ExecutionDocument)
        if field.name not in _DETAILED
    ],
    kw_only=True,
    rename="camel",
)
_decode_summary = quantities.decoder(_Summary).decode


def summary(document: str) -> bytes:
    """A stored document as lists show it: without what each cell did."""
    return quantities.encode_in_words(_decode_summary(document))
