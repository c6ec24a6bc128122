"""How many firings of a schedule counted as run at an earlier position."""

from typing import Final
from uuid import UUID

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.schedule import Firing, Schedule, ScheduleSettings, schedule_id_of
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

_SET: Final = f"""
SELECT {COLUMNS} FROM event
WHERE stream_id = $1 AND type = ANY($2) AND position <= $3 ORDER BY version DESC LIMIT 1
"""  # noqa: S608 (constants)

# As ``ScheduleRows`` counts: a firing that runs or is queued, until it is skipped after all, and
# none that somebody asked for.
_COUNT: Final = """
SELECT coalesce(sum((e.type = ANY($4))::int - (coalesce(before.type, '') = ANY($5))::int), 0)
FROM event AS e
LEFT JOIN event AS before ON before.stream_id = e.stream_id AND before.version = e.version - 1
WHERE e.subject_id = $1 AND e.position > $2 AND e.position <= $3 AND e.type = ANY($6)
    AND e.data ->> 'trigger' <> 'manual'
"""


def _stored(*events: type[Schedule.Event | Firing.Event]) -> list[str]:
    return [name for each in events for name in EVENT_TYPES.stored_names(each.TYPE)]


_STORED_SET: Final = _stored(Schedule.Set, Schedule.Changed)
_STORED_COUNTED: Final = _stored(Firing.Started, Firing.Queued)
_STORED_QUEUED: Final = _stored(Firing.Queued)
_STORED_FIRINGS: Final = _stored(Firing.Started, Firing.Queued, Firing.Skipped, Firing.Missed)


async def counted_runs_then(
    connection: PooledConnection, notebook_id: UUID, settings: ScheduleSettings, position: int
) -> int:
    """What the scheduler would have counted up to ``position``, since it was set as it is."""
    row = await connection.fetchrow(_SET, schedule_id_of(notebook_id), _STORED_SET, position)
    if row is None:
        return 0
    last = recorded_event(row)
    event = decode(last)
    if not isinstance(event, Schedule.Set | Schedule.Changed) or event.settings != settings:
        return 0
    count: int = await connection.fetchval(
        _COUNT,
        notebook_id,
        last.position,
        position,
        _STORED_COUNTED,
        _STORED_QUEUED,
        _STORED_FIRINGS,
    )
    return count
