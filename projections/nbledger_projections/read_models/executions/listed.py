"""The list of a project's executions: a slim row for each, and one for each of its tags.

The rows are what filters look at. They are written with the statuses, in one transaction, by
whatever changes one of them: what cells do does not.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.execution import TERMINAL_EVENTS, Execution, Phase
from nbledger_domain.filtering import Facts
from nbledger_domain.filtering.fields import MAX_NAME
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_projections.read_models.executions.state import ExecutionRow

LIST: Final = "execution_list"
TAGS: Final = "execution_tag"

CHANGING: Final = frozenset(
    event.TYPE
    for event in (
        Execution.Requested,
        Execution.Claimed,
        Execution.EnvironmentProgressed,
        Execution.Started,
        Execution.AttemptLost,
        *TERMINAL_EVENTS,
    )
)
"""Events after which a row may be another one."""

_SAVE: Final = f"""
INSERT INTO {LIST} AS listed (
    execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position,
    status, phase, termination_code, requested_by, cause, started_at, ended_at, tags
)
SELECT
    execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position,
    status, phase, termination_code, requested_by, cause, started_at, ended_at,
    ARRAY(SELECT json_array_elements_text(tags))
FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::bigint[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[],
    $14::json[]
) AS told (
    execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position,
    status, phase, termination_code, requested_by, cause, started_at, ended_at, tags
)
ON CONFLICT (execution_id) DO UPDATE SET
    status = excluded.status, phase = excluded.phase,
    termination_code = excluded.termination_code,
    started_at = excluded.started_at, ended_at = excluded.ended_at
"""  # noqa: S608 (constants)

_SAVE_TAGS: Final = f"""
INSERT INTO {TAGS} (
    execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position, tag
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::bigint[], $7::text[]
)
ON CONFLICT DO NOTHING
"""  # noqa: S608 (constants)

_DELETE: Final = tuple(
    f"DELETE FROM {table} WHERE notebook_id = ANY($1)"  # noqa: S608 (constants)
    for table in (LIST, TAGS)
)

_encode = msgspec.json.Encoder().encode


def facts(state: ExecutionRow) -> Facts:
    """What filters look at of an execution, as its status shows it."""
    document = state.document
    phase = document.phase or None
    taken = document.attempt_history[-1].start_time if document.attempt_history else None
    return Facts(
        status=document.status,
        phase=phase,
        termination_code=document.termination_code or None,
        tags=tuple(document.tags or ()),
        notebook_id=state.notebook_id,
        requested_by=document.requested_by[:MAX_NAME],
        cause=document.cause.kind,
        requested=_moment(document.start_time),
        started=None if taken is None or phase == Phase.QUEUED else _moment(taken),
        ended=None if document.end_time is UNSET else _moment(document.end_time),
    )


async def save(
    connection: PooledConnection, changed: Sequence[ExecutionRow], requested: set[UUID]
) -> None:
    """Write the rows of these, and the tags of those that were ``requested`` just now."""
    if not changed:
        return
    rows = [(state, facts(state)) for state in changed]
    await connection.execute(
        _SAVE, *(list(column) for column in zip(*(_columns(*row) for row in rows), strict=True))
    )
    tags = [
        (*_key(state, found), tag)
        for state, found in rows
        if state.execution_id in requested
        for tag in dict.fromkeys(found.tags)
    ]
    if tags:
        await connection.execute(_SAVE_TAGS, *(list(column) for column in zip(*tags, strict=True)))


async def remove(connection: PooledConnection, notebook_ids: Sequence[UUID]) -> None:
    """Remove the rows of all executions of these notebooks."""
    for statement in _DELETE:
        await connection.execute(statement, notebook_ids)


def _key(state: ExecutionRow, found: Facts) -> tuple[object, ...]:
    return (
        state.execution_id,
        state.notebook_id,
        state.tenant_id,
        state.project_id,
        found.requested,
        state.requested_position,
    )


def _columns(state: ExecutionRow, found: Facts) -> tuple[object, ...]:
    return (
        *_key(state, found),
        found.status,
        found.phase,
        found.termination_code,
        found.requested_by,
        found.cause,
        found.started,
        found.ended,
        _encode(found.tags).decode(),
    )


def _moment(text: str | UnsetType) -> datetime:
    return datetime.fromisoformat(str(text))
