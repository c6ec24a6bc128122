"""How many firings of a schedule counted as run at an earlier position."""

from typing import Final
from uuid import UUID

from nbledger_application.schedules.folding import NOTED, READ, ScheduleRows
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.schedule import ScheduleSettings, schedule_id_of
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

# Of what is only noted the data is not needed, and may be large.
_EVENTS: Final = f"""
SELECT {COLUMNS.replace(" data,", " CASE WHEN type = ANY($3) THEN data END AS data,")} FROM event
WHERE subject_id = $1 AND position <= $2 AND type = ANY($3 || $4) ORDER BY position
"""  # noqa: S608 (constants)

_STORED_READ: Final = [name for each in READ for name in EVENT_TYPES.stored_names(each)]
_STORED_NOTED: Final = [name for each in NOTED for name in EVENT_TYPES.stored_names(each)]


async def counted_runs_then(
    connection: PooledConnection, notebook_id: UUID, settings: ScheduleSettings, position: int
) -> int:
    """What the scheduler would have counted up to ``position``, by the fold that it counts by."""
    rows = ScheduleRows()
    for row in await connection.fetch(_EVENTS, notebook_id, position, _STORED_READ, _STORED_NOTED):
        rows.apply(recorded_event(row))
    found = rows.schedule(schedule_id_of(notebook_id))
    return 0 if found is None or found.settings != settings else found.runs
