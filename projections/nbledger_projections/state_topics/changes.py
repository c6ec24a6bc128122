"""Which documents have changed between two positions, and which are gone for good."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.dataset import Dataset
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_projections.state_topics.states import DATASET, EXECUTION, MODELS, NOTEBOOK

POSITIONS_AT_ONCE: Final = 2_000

_DELETING: Final = [
    name
    for event in (Notebook.DeletionRequested, Notebook.Deleted, Dataset.Deleted)
    for name in EVENT_TYPES.stored_names(event.TYPE)
]
_REQUESTED: Final = EVENT_TYPES.stored_names(Execution.Requested.TYPE)

_MODELS: Final = """
SELECT name, position, generation FROM projection_checkpoint WHERE name = ANY($1)
"""

_CHANGED: Final = """
SELECT kind, id, subject_id, tenant_id, project_id, max(position) AS position,
    max(recorded_at) AS at
FROM (
    SELECT split_part(type, '.', 1) AS kind, stream_id AS id, subject_id, tenant_id, project_id,
        position, recorded_at
    FROM event WHERE position > $1 AND position <= $2
) AS e
WHERE kind IN ('notebook', 'execution', 'dataset')
GROUP BY kind, id, subject_id, tenant_id, project_id
"""

_DELETED: Final = """
SELECT stream_id AS id, stream_id AS subject_id, tenant_id, project_id, max(position) AS position,
    max(recorded_at) AS at, split_part(min(type), '.', 1) AS kind
FROM event
WHERE position > $1 AND position <= $2 AND type = ANY($3)
GROUP BY stream_id, tenant_id, project_id
"""

_EXECUTIONS: Final = """
SELECT stream_id FROM event WHERE subject_id = $1 AND type = ANY($2) AND stream_id > $3
ORDER BY stream_id LIMIT $4
"""

_GONE: Final = """
SELECT asked.id, last.position, last.recorded_at
FROM unnest($1::uuid[], $2::uuid[]) AS asked (id, subject_id)
CROSS JOIN LATERAL (
    SELECT position, recorded_at FROM event
    WHERE stream_id = asked.id ORDER BY version DESC LIMIT 1
) AS last
WHERE EXISTS (SELECT FROM event WHERE stream_id = asked.subject_id AND type = ANY($3))
"""


class Changed(msgspec.Struct, frozen=True):
    """A document that events up to ``position`` have changed; the last one was recorded ``at``."""

    id: UUID
    subject_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    at: datetime


class Reach(msgspec.Struct, frozen=True):
    """How far all read models have come, and which edition of each that is."""

    position: int
    generations: Mapping[str, int]


async def reach(connection: PooledConnection) -> Reach:
    """How far the read models have come that states are made of; 0 where one has never run."""
    rows = await connection.fetch(_MODELS, list(MODELS))
    position = min(row["position"] for row in rows) if len(rows) == len(MODELS) else 0
    return Reach(position, {row["name"]: row["generation"] for row in rows})


async def changed(
    connection: PooledConnection, after: int, through: int
) -> dict[str, list[Changed]]:
    """The documents that events of these positions change, by their kind, each once."""
    found: dict[str, dict[UUID, Changed]] = {NOTEBOOK: {}, EXECUTION: {}, DATASET: {}}
    for row in await connection.fetch(_CHANGED, after, through):
        one = Changed(*(row[name] for name in Changed.__struct_fields__))
        found[row["kind"]][one.id] = _later(found[row["kind"]].get(one.id), one)
        if row["kind"] == EXECUTION:
            # What happens to a run is told of its notebook, too.
            whole = msgspec.structs.replace(one, id=one.subject_id)
            found[NOTEBOOK][whole.id] = _later(found[NOTEBOOK].get(whole.id), whole)
    return {kind: list(each.values()) for kind, each in found.items()}


async def deleted_notebooks(
    connection: PooledConnection, after: int, through: int
) -> list[Changed]:
    """The notebooks whose deletion was asked for, or done, at these positions."""
    rows = await connection.fetch(_DELETED, after, through, _DELETING)
    fields = Changed.__struct_fields__
    return [Changed(*(row[name] for name in fields)) for row in rows if row["kind"] == NOTEBOOK]


async def executions_of(
    connection: PooledConnection, notebook: Changed, after: UUID, limit: int
) -> list[Changed]:
    """Executions that a notebook has had, in the order of their ids."""
    rows = await connection.fetch(_EXECUTIONS, notebook.id, _REQUESTED, after, limit)
    return [msgspec.structs.replace(notebook, id=row[0]) for row in rows]


async def gone(
    connection: PooledConnection, missing: Sequence[Changed]
) -> dict[UUID, tuple[int, datetime]]:
    """Those of ``missing`` that an event has deleted, each with the last event of its stream."""
    rows = await connection.fetch(
        _GONE, [each.id for each in missing], [each.subject_id for each in missing], _DELETING
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def _later(one: Changed | None, other: Changed) -> Changed:
    return other if one is None or other.position > one.position else one
