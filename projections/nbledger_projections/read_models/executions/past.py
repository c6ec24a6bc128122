"""The status of an execution as it was at an earlier position.

Of what the answer told then, two things are in no event and are left out: what the run used at that
very moment, as its worker told it, and where it stood in the queue.
"""

from typing import Final, cast
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.notices import run_notice_id
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.machinery import quantities
from nbledger_projections.machinery.past import PastRead, Place
from nbledger_projections.machinery.snapshots import SnapshotTable
from nbledger_projections.read_models.executions.repetitions.links import REPETITIONS_THEN
from nbledger_projections.read_models.executions.state import ExecutionRow
from nbledger_projections.read_models.executions.status import (
    MODEL,
    NAME,
    STORED_REQUESTED,
    ExecutionView,
    earlier_runs,
    view_of,
)
from nbledger_projections.read_models.humanize import Estimate

_THEN = PastRead(MODEL, order="version")
_SNAPSHOTS: Final = cast("SnapshotTable[ExecutionRow]", MODEL.snapshots)

# What the projection has estimated by the runs before stays as it is; a snapshot tells it as well,
# and a document may be large. $7 is the position.
_BESIDE: Final = f"""
SELECT
    {REPETITIONS_THEN} AS repetitions,
    n.data AS slow, n.type AS slow_type, n.occurred_at AS slow_at,
    s.execution_id IS NOT NULL AS projected,
    CASE WHEN NOT EXISTS (
        SELECT FROM {_SNAPSHOTS.name} WHERE execution_id = $4 AND position <= $7 AND format = $9
    ) THEN s.document END AS document,
    (SELECT position FROM event WHERE stream_id = $4 AND version = 1) AS requested,
    (SELECT position FROM projection_checkpoint WHERE name = $6) AS checkpoint
FROM (SELECT) AS one
LEFT JOIN execution_status AS s ON s.execution_id = $4
LEFT JOIN event AS n ON n.stream_id = $8 AND n.version = 1 AND n.position <= $7
"""  # noqa: S608 (constants)


class _Estimated(msgspec.Struct, rename="camel"):
    estimated_duration: Estimate | UnsetType | None = UNSET


_decode_estimated = quantities.decoder(_Estimated).decode


async def then(
    connection: PooledConnection, place: Place, execution_id: UUID, moment: Moment
) -> ExecutionView | None:
    """The execution as it was, of one that is known to have existed."""
    record = await connection.fetchrow(
        _BESIDE,
        place.tenant_id,
        place.project_id,
        place.subject_id,
        execution_id,
        STORED_REQUESTED,
        NAME,
        moment.position,
        run_notice_id(execution_id),
        _SNAPSHOTS.format,
    )
    assert record is not None  # noqa: S101 (it has one row)
    earlier = None
    if not record["projected"]:
        # The read model has not come so far, or has let go of it: its notebook is deleted.
        gone = (record["checkpoint"] or 0) >= record["requested"]
        earlier = await earlier_runs(
            connection, place.subject_id, record["requested"], projected=not gone
        )
    state = await _THEN.get(connection, execution_id, moment, earlier=earlier)
    if state is None:
        return None
    if record["document"] is not None:
        known = _decode_estimated(record["document"])
        state.document.estimated_duration = known.estimated_duration
    return view_of(state, record)
