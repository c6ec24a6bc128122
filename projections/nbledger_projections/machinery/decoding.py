"""What projections have to know of recorded events."""

from collections.abc import Collection
from uuid import UUID

from nbledger_domain.events import EVENT_TYPES, UnknownEventTypeError
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent

CREATED = Notebook.Created.TYPE
DELETED = Notebook.Deleted.TYPE
REQUESTED = Execution.Requested.TYPE


def check_known(recorded: RecordedEvent) -> None:
    """Raise :class:`UnknownEventTypeError` for a type that this software does not know."""
    if recorded.type not in EVENT_TYPES.classes:
        raise UnknownEventTypeError(f"{recorded.type} at position {recorded.position}")


def is_execution(recorded: RecordedEvent) -> bool:
    """Whether the event is of an execution, not of the notebook itself."""
    return recorded.stream_id != recorded.subject_id


async def deleted_notebooks(
    connection: PooledConnection, notebook_ids: Collection[UUID]
) -> set[UUID]:
    """Those of ``notebook_ids`` that are deleted by now."""
    if not notebook_ids:
        return set()
    rows = await connection.fetch(
        """
        SELECT asked.id FROM unnest($1::uuid[]) AS asked (id)
        CROSS JOIN LATERAL (
            SELECT type FROM event WHERE stream_id = asked.id ORDER BY version DESC LIMIT 1
        ) AS last
        WHERE last.type = ANY($2)
        """,
        sorted(notebook_ids),
        EVENT_TYPES.stored_names(DELETED),
    )
    return {row[0] for row in rows}
