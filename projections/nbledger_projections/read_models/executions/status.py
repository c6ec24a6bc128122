"""The statuses of executions: one row each, kept up to date and read fresh."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import CellRange, Execution, Resources
from nbledger_domain.notebook import Notebook
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
from nbledger_projections.machinery.documents import Page
from nbledger_projections.machinery.rows import Rows
from nbledger_projections.read_models.executions.documents import ExecutionDocument
from nbledger_projections.read_models.executions.estimates import Runs, remember, span
from nbledger_projections.read_models.executions.folding import duration, fold
from nbledger_projections.read_models.executions.resources import resources_document
from nbledger_projections.read_models.executions.state import ExecutionState

NAME = "execution_status"

CACHED_DURATIONS = 500_000
"""About how much memory the durations of notebooks take that a projector keeps."""


class ExecutionView(msgspec.Struct, frozen=True):
    """An execution as it is at this moment: the JSON body, and its place in the store.

    ``version`` counts the events of its stream, ``position`` is that of the last one, which
    was recorded at ``modified_at``, if the worker has not told later (``used_at``) what the run
    uses.
    """

    execution_id: UUID
    notebook_id: UUID
    document: bytes
    position: int
    version: int
    modified_at: datetime
    ended: bool
    used_at: datetime | None = None


class _Request(msgspec.Struct, rename="camel"):
    """What a request to execute says of what is to run."""

    cell_range: CellRange | None = None


class _Kept(msgspec.Struct, rename="camel"):
    """What folding on needs beside the document."""

    silent: list[str]
    request_warnings: list[str]


_decode_kept = msgspec.json.Decoder(list[str] | _Kept).decode
_document_decoder = msgspec.json.Decoder(ExecutionDocument)
_usage_decoder = msgspec.json.Decoder(Resources)
_decode_runs = msgspec.json.Decoder(dict[str, list[float]]).decode
_decode_request = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode

_ROW = (
    "execution_id, notebook_id, tenant_id, project_id, position, version, requested_position, "
    "requested_at, updated_at, started_at, ended, phase, kernel_type, epoch, document, silent, "
    "priority"
)

_LOAD = f"SELECT {_ROW} FROM execution_status WHERE execution_id = ANY($1)"  # noqa: S608 (constants)

_SAVE = f"""
INSERT INTO execution_status ({_ROW})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::integer[], $7::bigint[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::boolean[], $12::text[],
    $13::text[], $14::integer[], $15::json[], $16::json[], $17::text[]
)
ON CONFLICT (execution_id) DO UPDATE SET
    position = excluded.position, version = excluded.version, updated_at = excluded.updated_at,
    ended = excluded.ended, phase = excluded.phase, epoch = excluded.epoch,
    document = excluded.document, silent = excluded.silent
"""  # noqa: S608 (constants)

_DELETE = "DELETE FROM execution_status WHERE notebook_id = ANY($1)"

_LOAD_DURATIONS = "SELECT notebook_id, runs FROM notebook_duration WHERE notebook_id = ANY($1)"

_SAVE_DURATIONS = """
INSERT INTO notebook_duration (notebook_id, runs) VALUES ($1, $2)
ON CONFLICT (notebook_id) DO UPDATE SET runs = excluded.runs
"""

_DELETE_DURATIONS = "DELETE FROM notebook_duration WHERE notebook_id = ANY($1)"

NOTEBOOK_EXISTS = f"""
    (SELECT type FROM event WHERE stream_id = $3 ORDER BY version DESC LIMIT 1)
        NOT IN ('{DELETED}', '{Notebook.DeletionRequested.TYPE}')
"""  # noqa: S608 (constants)
"""Condition of queries for an execution of notebook $3: a deletion acts as soon as it is asked."""

_READ = f"{_ROW}, usage, used_at"
"""With what the run uses at the moment: no event tells it, the view ``execution_usage`` does."""

_GET = fresh.query(
    _READ,
    f"""(
        SELECT s.*, l.usage, l.used_at
        FROM (SELECT) AS one
        LEFT JOIN (
            SELECT {_ROW} FROM execution_status
            WHERE execution_id = $4 AND notebook_id = $3 AND tenant_id = $1 AND project_id = $2
                AND {NOTEBOOK_EXISTS}
        ) AS s ON true
        LEFT JOIN execution_usage AS l ON l.execution_id = $4
    )""",  # noqa: S608 (constants)
    events=f"""
        e.stream_id = $4 AND e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
        AND e.stream_id <> e.subject_id
        AND e.version > coalesce(d.version, 0) AND {NOTEBOOK_EXISTS}
    """,
    order="version",
)

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


class ExecutionStatusProjection:
    """The projection that keeps tables ``execution_status`` and ``notebook_duration``."""

    name: ClassVar[str] = NAME
    tables: ClassVar[tuple[str, ...]] = ("execution_status", "notebook_duration")

    def __init__(self) -> None:
        self._rows: Rows[ExecutionState] = Rows()
        self._runs: Rows[Runs] = Rows(CACHED_DURATIONS)
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
        notebooks = self._runs.missing(
            recorded.subject_id
            for recorded in executing
            if recorded.type in {REQUESTED, Execution.Completed.TYPE}
        )
        rows = await connection.fetch(_LOAD_DURATIONS, notebooks) if notebooks else []
        self._runs.fill(notebooks, {row[0]: _decode_runs(row[1]) for row in rows})

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if not is_execution(recorded):
            check_known(recorded)
            if recorded.type == DELETED:
                self._remove(recorded.subject_id)
            return
        notebook_id = recorded.subject_id
        earlier: Runs | None = None
        if recorded.type == REQUESTED:
            if notebook_id in self._doomed:
                return
            earlier = self._runs.get(notebook_id)
        state = fold(self._rows.get(recorded.stream_id), recorded, earlier=earlier)
        if state is None:
            return
        self._rows.put(recorded.stream_id, state)
        if state.ended:
            self._rows.let_go(recorded.stream_id)
        if recorded.type == Execution.Completed.TYPE and recorded.data is not None:
            earlier = self._runs.get(notebook_id) or {}
            covered = span(state.document.cell_range)
            self._runs.put(notebook_id, remember(earlier, covered, duration(state, recorded)))

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        written, _ = self._rows.changes()
        if written:
            await connection.execute(_SAVE, *_columns(written))
        if runs := self._runs.changed():
            rows = [(key, _encode(each).decode()) for key, each in runs]
            await connection.executemany(_SAVE_DURATIONS, rows)
        if self._gone:
            gone = sorted(self._gone)
            await connection.execute(_DELETE, gone)
            await connection.execute(_DELETE_DURATIONS, gone)

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()
        self._runs.settle()
        self._gone.clear()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()
        self._runs.clear()
        self._gone.clear()

    def _remove(self, notebook_id: UUID) -> None:
        self._gone.add(notebook_id)
        self._runs.forget([notebook_id])
        self._rows.forget(
            [key for key, state in self._rows.states() if state.notebook_id == notebook_id]
        )


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, execution_id: UUID
) -> ExecutionView | None:
    """The execution as of now; ``None`` when this notebook has none such, or is deleted."""
    async with acquire(pool) as connection:
        found = await connection.fetch(_GET, tenant_id, project_id, notebook_id, execution_id)
        row, news = fresh.split(_READ, found)
        usage, used_at = (found[0]["usage"], found[0]["used_at"]) if found else (None, None)
        if not news and (row is None or row["ended"] or usage is None):
            return None if row is None else _stored_view(row)
        earlier: Runs | None = None
        if row is None:
            earlier = await _earlier(connection, notebook_id, news[0].position)
    state = None if row is None else _state(row)
    for recorded in news:
        state = fold(state, recorded, earlier=earlier)
    if state is None:
        return None
    if state.ended:
        used_at = None
    elif usage is not None:
        state.document.resources = resources_document(_usage_decoder.decode(usage))
    return ExecutionView(
        execution_id=state.execution_id,
        notebook_id=state.notebook_id,
        document=_encode(state.document),
        position=state.position,
        version=state.version,
        modified_at=max(state.updated_at, used_at or state.updated_at),
        ended=state.ended,
        used_at=used_at,
    )


async def _earlier(connection: PooledConnection, notebook_id: UUID, before: int) -> Runs:
    """How long the runs took that had completed before a position."""
    completed = EVENT_TYPES.stored_names(Execution.Completed.TYPE)
    found = await connection.fetchrow(_EARLIER, notebook_id, completed, before, NAME)
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
        items=[_summary(document) for document in row["documents"]],
        total_count=row["total"],
        position=row["position"] or 0,
    )


_DETAILED = ("cellResults", "attemptHistory")
"""What a list leaves out."""


def _summary(document: str) -> bytes:
    members = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    for name in _DETAILED:
        del members[name]
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
    kept = _decode_kept(row["silent"])
    if isinstance(kept, list):
        kept = _Kept(kept, [])
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
        silent=kept.silent,
        request_warnings=kept.request_warnings,
    )


def _encode_kept(state: ExecutionState) -> bytes:
    """A bare list without warnings of the request, as rows always had it."""
    warnings = state.request_warnings
    return _encode(_Kept(state.silent, warnings) if warnings else state.silent)


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
        [_encode_kept(state).decode() for state in states],
        [state.document.priority for state in states],
    )
