"""Where a waiting run stands in the queue: how many are before it, and what it waits for."""

import asyncio
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from nbledger_application.queue import NO_LIMITS, ShareLimits
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool, acquire

FARTHEST: Final = 1000
"""A position is counted up to here."""

WaitReason = Literal[
    "starting", "noSlot", "noWorker", "notebookLimit", "projectLimit", "tenantLimit"
]

_PLACE: Final = "SELECT * FROM queue_place($1, $2, $3)"


class Place(msgspec.Struct, frozen=True):
    """Where a run stands, and since when it waits.

    ``position`` counts from 1 and tells which start of its kernel type and priority it is, if
    nothing else comes and no limit holds another one back; :data:`FARTHEST` stands for that and
    more. ``seconds`` is how long it may yet wait, by how long runs took lately; ``None`` where
    that cannot be told.
    """

    position: int
    reason: WaitReason
    since: datetime
    seconds: float | None


async def find(pool: Pool, execution_id: UUID, limits: ShareLimits = NO_LIMITS) -> Place | None:
    """The place of a run; ``None`` where it does not wait. Raises ``DatabaseUnavailableError``."""
    row, slots = await asyncio.gather(
        _place(pool, execution_id, limits), worker_registry.slots(pool)
    )
    if row is None:
        return None
    of_kernel = slots.get(row["kernel_type"], 0)
    position: int = row["position"]
    reason: WaitReason = row["held_by"] or _reason(position, of_kernel - row["running"], of_kernel)
    seconds: float | None = None
    if reason in {"noSlot", "starting"} and row["seconds"] is not None and position < FARTHEST:
        ahead = position if reason == "noSlot" else 0
        seconds = round(ahead * row["seconds"] / of_kernel, 1)
    return Place(position, reason, row["since"], seconds)


def _reason(position: int, free: int, slots: int) -> WaitReason:
    if slots == 0:
        return "noWorker"
    return "starting" if position <= free else "noSlot"


async def _place(pool: Pool, execution_id: UUID, limits: ShareLimits) -> asyncpg.Record | None:
    async with acquire(pool) as connection:
        return await connection.fetchrow(_PLACE, execution_id, limits.tenant, limits.project)
