"""Chains of executions: a run, and the runs that repeat it, or what repeats it, to the newest."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import Cause, CellRange, Execution
from nbledger_infrastructure.postgres.database import Pool, PooledConnection
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_projections.machinery import quantities
from nbledger_projections.machinery.one_moment import one_moment
from nbledger_projections.read_models.executions.documents import (
    AttemptDocument,
    ErrorDocument,
    RepetitionDocument,
)
from nbledger_projections.read_models.executions.folding import fold
from nbledger_projections.read_models.executions.repetitions import links
from nbledger_projections.read_models.executions.state import ExecutionRow
from nbledger_projections.read_models.executions.status import MODEL, NAME
from nbledger_projections.read_models.humanize import Duration

MOST: Final = 1000
"""Runs of a chain that are told."""

_REQUESTED: Final = EVENT_TYPES.stored_names(Execution.Requested.TYPE)

# Upwards from execution $1 to the first, and from there down to all that repeat it. $2 and $3 are
# executions that the read model does not hold yet, and what they repeat.
_LINKS = f"""
WITH RECURSIVE recent AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::uuid[]) AS link (execution_id, repeats)
),
upwards AS (
    SELECT $1::uuid AS execution_id, 0 AS height
    UNION ALL
    SELECT earlier.repeats, upwards.height + 1
    FROM upwards CROSS JOIN LATERAL (
        -- By its key: among all that repeat any, it would be searched for.
        SELECT coalesce(
            (SELECT repeats FROM execution_status WHERE execution_id = upwards.execution_id),
            (SELECT repeats FROM recent WHERE execution_id = upwards.execution_id)
        ) AS repeats
    ) AS earlier
    WHERE earlier.repeats IS NOT NULL
),
downwards AS (
    (SELECT execution_id, NULL::uuid AS repeats FROM upwards ORDER BY height DESC LIMIT 1)
    UNION ALL
    SELECT later.execution_id, downwards.execution_id
    FROM downwards CROSS JOIN LATERAL (
        SELECT execution_id FROM execution_status
        WHERE repeats = downwards.execution_id
        UNION
        SELECT execution_id FROM recent WHERE repeats = downwards.execution_id
    ) AS later
)
SELECT execution_id, repeats FROM downwards LIMIT {MOST + 1}
"""  # noqa: S608 (constants)

_ROWS = f"""
SELECT {MODEL.table.columns} FROM execution_status WHERE execution_id = ANY($1)
"""  # noqa: S608 (constants)

_NEWS = f"""
SELECT {COLUMNS} FROM event
WHERE stream_id = ANY($1) AND data IS NOT NULL
    AND position > coalesce((SELECT position FROM projection_checkpoint WHERE name = $2), 0)
ORDER BY position
"""  # noqa: S608 (constants)


class ChainedExecutionDocument(msgspec.Struct, kw_only=True, rename="camel"):
    """A run of a chain; its own document has what it was asked for and what its cells did."""

    execution_id: str
    cause: Cause
    repetitions: list[RepetitionDocument]
    notebook_version: str
    cell_range: CellRange | UnsetType = UNSET
    status: str
    phase: str | UnsetType = UNSET
    start_time: str
    end_time: str | UnsetType = UNSET
    total_duration: Duration | UnsetType = UNSET
    termination_code: str | UnsetType = UNSET
    termination_category: str | UnsetType = UNSET
    error: ErrorDocument | UnsetType = UNSET
    attempts: int
    attempt_history: list[AttemptDocument]
    requested_by: str


class ChainDocument(msgspec.Struct, kw_only=True, rename="camel"):
    """All runs that repeat the first one, or what repeats it, in the order of their requests.

    `firstExecutionId` is the one that repeats none. `complete` is false where there are more than
    1,000; those nearest to the first are told.
    """

    first_execution_id: str
    executions: list[ChainedExecutionDocument]
    complete: bool


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, execution_id: UUID
) -> bytes:
    """The chain of an execution that this notebook has, as of now, as JSON."""
    async with one_moment(pool, [NAME]) as connection:
        notebook = (tenant_id, project_id, notebook_id)
        recent = await links.recent(connection, notebook, _REQUESTED, NAME)
        new, old = [each[0] for each in recent], [each[1] for each in recent]
        found = await connection.fetch(_LINKS, execution_id, new, old)
        rows = await _rows(connection, [each["execution_id"] for each in found[:MOST]])
    rows.sort(key=lambda row: row.requested_position)
    repetitions: dict[str, list[RepetitionDocument]] = {}
    for row in rows:
        cause = row.document.cause
        link = links.repetition(row.document.execution_id, cause.kind)
        repetitions.setdefault(str(cause.execution_id), []).append(link)
    return quantities.encode_in_words(
        ChainDocument(
            first_execution_id=str(found[0]["execution_id"]),
            executions=[
                _chained(row, repetitions.get(row.document.execution_id, [])) for row in rows
            ],
            complete=len(found) <= MOST,
        )
    )


async def _rows(connection: PooledConnection, ids: Sequence[UUID]) -> list[ExecutionRow]:
    """The rows of these executions as of the transaction's moment."""
    found = await connection.fetch(_ROWS, ids)
    rows: dict[UUID, ExecutionRow | None] = {each[0]: MODEL.table.row(each) for each in found}
    for record in await connection.fetch(_NEWS, ids, NAME):
        recorded = recorded_event(record)
        rows[recorded.stream_id] = fold(rows.get(recorded.stream_id), recorded)
    return [row for row in rows.values() if row is not None]


def _chained(row: ExecutionRow, repetitions: list[RepetitionDocument]) -> ChainedExecutionDocument:
    document = row.document
    names = ChainedExecutionDocument.__struct_fields__
    own = {name: getattr(document, name) for name in names if name != "repetitions"}
    return ChainedExecutionDocument(**own, repetitions=repetitions)
