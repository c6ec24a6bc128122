"""Reading a range of positions: of all events, or of those of a tenant or project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

if TYPE_CHECKING:
    from uuid import UUID

    from nbledger_infrastructure.postgres.database import PooledConnection
    from nbledger_infrastructure.postgres.event_store.types import RecordedEvent

_OF = {
    (False, False): "",
    (True, False): "AND tenant_id = $4",
    (True, True): "AND tenant_id = $4 AND project_id = $5",
}
# As many as asked for, but no further than the one that passes 16 MiB as stored.
_READ = {
    of: f"""
SELECT {COLUMNS} FROM (
    SELECT *, sum(pg_column_size(data)) OVER (
        ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM (
        SELECT * FROM event WHERE position > $1 AND position <= $2 {condition}
        ORDER BY position LIMIT $3
    ) AS next
) AS measured
WHERE coalesce(bytes_before, 0) <= 16777216 ORDER BY position
"""  # noqa: S608  field names of a struct, and constants
    for of, condition in _OF.items()
}


async def read_range(
    connection: PooledConnection,
    after: int,
    until: int,
    limit: int,
    *,
    tenant_id: UUID | None = None,
    project_id: UUID | None = None,
) -> list[RecordedEvent]:
    """Return events after a position and up to another, in order: ``limit`` at most.

    At least one where there is any. A project is one of a tenant.
    """
    owners = [each for each in (tenant_id, project_id) if each is not None]
    query = _READ[tenant_id is not None, project_id is not None]
    rows = await connection.fetch(query, after, until, limit, *owners)
    return [recorded_event(row) for row in rows]
