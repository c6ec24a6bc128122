"""The notebook as the API shows it: one row each, folded from its own and its runs' events."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery import fresh_reads as fresh
from nbledger_projections.machinery.decoding import (
    CREATED,
)
from nbledger_projections.machinery.rows import Rows
from nbledger_projections.read_models.notebooks.activity import Activity
from nbledger_projections.read_models.notebooks.documents import (
    NotebookDocument,
    NotebookState,
)
from nbledger_projections.read_models.notebooks.folding import fold

NAME = "notebook_details"


class NotebookView(msgspec.Struct, frozen=True):
    """A notebook as it is at this moment.

    ``document`` is the JSON body. ``position`` is that of the last event of the notebook or
    its executions, ``stream_version`` counts the notebook's own events, ``modified_at`` is
    when any of them was recorded last. ``running`` counts executions under way.
    """

    notebook_id: UUID
    document: bytes
    position: int
    stream_version: int
    modified_at: datetime
    deletion_requested: bool
    running: int


_document_decoder = msgspec.json.Decoder(NotebookDocument)
_activity_decoder = msgspec.json.Decoder(Activity)
_encode = msgspec.json.Encoder().encode

_ROW = (
    "notebook_id, tenant_id, project_id, position, stream_version, modified_at, "
    "deletion_requested, running, document, activity"
)

_LOAD = f"SELECT {_ROW} FROM notebook_details WHERE notebook_id = ANY($1)"  # noqa: S608 (constants)

_SAVE = f"""
INSERT INTO notebook_details ({_ROW})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::integer[], $6::timestamptz[],
    $7::boolean[], $8::integer[], $9::json[], $10::json[]
)
ON CONFLICT (notebook_id) DO UPDATE SET
    position = excluded.position, stream_version = excluded.stream_version,
    modified_at = excluded.modified_at, deletion_requested = excluded.deletion_requested,
    running = excluded.running, document = excluded.document, activity = excluded.activity
"""  # noqa: S608 (constants)

_DELETE = "DELETE FROM notebook_details WHERE notebook_id = ANY($1)"

_GET = fresh.query(
    _ROW,
    f"""(
        SELECT {_ROW} FROM notebook_details
        WHERE notebook_id = $3 AND tenant_id = $1 AND project_id = $2
    )""",  # noqa: S608 (constants)
    events="""
        e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
        AND e.position > coalesce(d.position, 0)
    """,
    order="position",
)


class NotebookDetailsProjection:
    """The projection that keeps table ``notebook_details``."""

    name: ClassVar[str] = NAME
    tables: ClassVar[tuple[str, ...]] = ("notebook_details",)

    def __init__(self) -> None:
        self._rows: Rows[NotebookState] = Rows()

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change into memory."""
        keys = self._rows.missing(recorded.subject_id for recorded in events)
        new = {recorded.subject_id for recorded in events if recorded.type == CREATED}
        known = [key for key in keys if key not in new]
        found = await connection.fetch(_LOAD, known) if known else []
        self._rows.fill(keys, {row["notebook_id"]: _state(row) for row in found})

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        before = self._rows.get(recorded.subject_id)
        after = fold(before, recorded)
        if after is not None or before is not None:
            self._rows.put(recorded.subject_id, after)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        written, deleted = self._rows.changes()
        if written:
            await connection.execute(_SAVE, *_columns(written))
        if deleted:
            await connection.execute(_DELETE, deleted)

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID
) -> NotebookView | None:
    """The notebook as of now; ``None`` when there is none in this tenant and project."""
    async with acquire(pool) as connection:
        found = await connection.fetch(_GET, tenant_id, project_id, notebook_id)
    row, news = fresh.split(_ROW, found)
    if not news:
        return None if row is None else _stored_view(row)
    state = None if row is None else _state(row)
    for recorded in news:
        state = fold(state, recorded)
    if state is None:
        return None
    return NotebookView(
        notebook_id=state.notebook_id,
        document=_encode(state.document),
        position=state.position,
        stream_version=state.stream_version,
        modified_at=state.modified_at,
        deletion_requested=state.deletion_requested,
        running=len(state.activity.running),
    )


def _stored_view(row: asyncpg.Record) -> NotebookView:
    return NotebookView(
        notebook_id=row["notebook_id"],
        document=row["document"].encode(),
        position=row["position"],
        stream_version=row["stream_version"],
        modified_at=row["modified_at"],
        deletion_requested=row["deletion_requested"],
        running=row["running"],
    )


def _state(row: asyncpg.Record) -> NotebookState:
    return NotebookState(
        notebook_id=row["notebook_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        position=row["position"],
        stream_version=row["stream_version"],
        modified_at=row["modified_at"],
        deletion_requested=row["deletion_requested"],
        document=_document_decoder.decode(row["document"]),
        activity=_activity_decoder.decode(row["activity"]),
    )


def _columns(states: Sequence[NotebookState]) -> tuple[list[Any], ...]:
    """The states as the arrays that ``_SAVE`` takes."""
    return (
        [state.notebook_id for state in states],
        [state.tenant_id for state in states],
        [state.project_id for state in states],
        [state.position for state in states],
        [state.stream_version for state in states],
        [state.modified_at for state in states],
        [state.deletion_requested for state in states],
        [len(state.activity.running) for state in states],
        [_encode(state.document).decode() for state in states],
        [_encode(state.activity).decode() for state in states],
    )
