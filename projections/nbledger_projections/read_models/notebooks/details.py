"""The notebook as the API shows it: one row each, folded from its own and its runs' events."""

from datetime import datetime
from operator import attrgetter
from uuid import UUID

import msgspec

from nbledger_domain.events import EVENT_TYPES
from nbledger_infrastructure.postgres.database import Pool, PooledConnection
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.machinery import quantities
from nbledger_projections.machinery.fresh_reads import FreshRead
from nbledger_projections.machinery.past import PastRead
from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.machinery.snapshots import SnapshotTable
from nbledger_projections.read_models.notebooks.documents import NotebookState
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


MODEL = ReadModel(
    NAME,
    NotebookState,
    key="notebook_id",
    key_of=attrgetter("subject_id"),
    fold=fold,
    types=[each for each in EVENT_TYPES.classes if each.startswith(("notebook.", "execution."))],
    computed={"running": ("integer", lambda state: len(state.activity.running))},
    snapshots=SnapshotTable("notebook_snapshot", NotebookState, key="notebook_id"),
)

_GET = FreshRead(
    MODEL,
    """(
        SELECT * FROM notebook_details
        WHERE notebook_id = $3 AND tenant_id = $1 AND project_id = $2
    )""",
    events="""
        e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
        AND e.position > coalesce(d.position, 0)
    """,
    order="position",
    columns=f"{MODEL.table.columns}, running",
)

_THEN = PastRead(MODEL, order="position")


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID
) -> NotebookView | None:
    """The notebook as of now; ``None`` when there is none in this tenant and project."""
    row = await _GET.get(pool, tenant_id, project_id, notebook_id)
    if row is None:
        return None
    return NotebookView(
        notebook_id=row["notebook_id"],
        document=row["document"].encode(),
        position=row["position"],
        stream_version=row["stream_version"],
        modified_at=row["modified_at"],
        deletion_requested=row["deletion_requested"],
        running=row["running"],
    )


async def then(
    connection: PooledConnection, notebook_id: UUID, moment: Moment
) -> NotebookView | None:
    """The notebook as it was, of one that is known to have existed."""
    state = await _THEN.get(connection, notebook_id, moment)
    if state is None:
        return None
    return NotebookView(
        notebook_id=state.notebook_id,
        document=quantities.encode(state.document),
        position=state.position,
        stream_version=state.stream_version,
        modified_at=state.modified_at,
        deletion_requested=state.deletion_requested,
        running=len(state.activity.running),
    )
