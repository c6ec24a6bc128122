"""What waits for a worker, as the store tells it: for whom no command has come."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from uuid import UUID

import msgspec
import structlog

from nbledger_domain.execution import PRIORITIES, Execution, Priority
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.database import UNAVAILABLE, DatabaseUnavailableError, Pool, acquire
from nbledger_workers.intake import Doorbell
from nbledger_workers.slots import Slots
from nbledger_workers.turns import Turns

log = structlog.get_logger(__name__)

WAITING: Final = (Execution.Requested.TYPE, Execution.AttemptLost.TYPE)
"""While one of these is its last event, an execution waits for a worker."""

SILENT_SECONDS: Final = 0.75
"""A worker that has had room for so long, and heard of no command, looks into the store; and what
has waited there for so long may have lost its command."""

LOOK_SECONDS: Final = 1.0
"""How often it looks then."""

BUSY_LOOK_SECONDS: Final = 30.0
"""How often it looks where commands come all the time: one that is lost must not wait for ever."""

# The read model finds what waits, and may lag; whether it still does is the events' to say.
_NEXT: Final = """
SELECT found.priority, found.execution_id, found.subject_id, found.tenant_id, found.project_id
FROM unnest($1::text[]) AS class (priority)
CROSS JOIN LATERAL (
    SELECT of_kernel.*
    FROM unnest($2::text[]) AS kernel (type)
    CROSS JOIN LATERAL (
        SELECT s.priority, s.execution_id, last.subject_id, last.tenant_id, last.project_id,
            s.requested_at
        FROM execution_status AS s
        CROSS JOIN LATERAL (
            SELECT type, subject_id, tenant_id, project_id, recorded_at FROM event
            WHERE stream_id = s.execution_id ORDER BY version DESC LIMIT 1
        ) AS last
        WHERE NOT s.ended AND s.phase = 'Queued'
          AND s.kernel_type = kernel.type AND s.priority = class.priority
          AND last.type = ANY($3)
          AND last.recorded_at < clock_timestamp() - make_interval(secs => $4)
          AND NOT EXISTS (SELECT FROM execution_lease AS l WHERE l.execution_id = s.execution_id)
        ORDER BY s.requested_at, s.execution_id LIMIT $5
    ) AS of_kernel
    ORDER BY of_kernel.requested_at, of_kernel.execution_id LIMIT $5
) AS found
"""


class Waiting(msgspec.Struct, frozen=True):
    """An execution that waits."""

    priority: Priority
    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID

    @property
    def command(self) -> Command:
        """What its message would say."""
        return Command(self.execution_id, self.notebook_id, self.tenant_id, self.project_id)


async def find(
    pool: Pool, kernel_types: Collection[str], *, older_than: float, limit: int
) -> dict[Priority, list[Waiting]]:
    """What has waited for more than ``older_than`` seconds, the oldest first in its class.

    At most ``limit`` of each class. Raises ``DatabaseUnavailableError``.
    """
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            _NEXT, list(PRIORITIES), list(kernel_types), list(WAITING), older_than, limit
        )
    found: dict[Priority, list[Waiting]] = {priority: [] for priority in PRIORITIES}
    for row in rows:
        each = Waiting(*row)
        found[each.priority].append(each)
    return found


async def look(
    pool: Pool,
    kernel_types: Collection[str],
    take: Callable[[Command], Awaitable[None]],
    *,
    slots: Slots,
    turns: Turns,
    doorbell: Doorbell,
) -> None:
    """Give ``take`` what waits in the store while Kafka brings nothing, for ever.

    The broker may be away, have forgotten, or be giving its partitions out anew; a command may
    lie in the partition of a worker that is full. What is claimed here is dropped when its
    message comes after all. Looks once at the start.
    """
    away = False
    looked_at: float | None = None
    while True:
        await slots.room()
        if looked_at is not None:
            silent = max(slots.free_since, doorbell.rang_at) + SILENT_SECONDS
            due = min(silent, looked_at + BUSY_LOOK_SECONDS)
            pause = max(due, looked_at + LOOK_SECONDS) - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
                continue
        try:
            found = await find(
                pool, kernel_types, older_than=SILENT_SECONDS, limit=max(slots.free, 1)
            )
            if away:
                away = False
                log.info("waiting work can be looked for again")
        except (DatabaseUnavailableError, *UNAVAILABLE) as error:
            found = {}
            if not away:
                away = True
                log.warning("waiting work not looked for", error=repr(error))
        taken = 0
        while slots.free > 0 and (chosen := _next(found, turns)) is not None:
            await take(chosen.command)
            taken += 1
        if taken:
            log.info("work found without its command", count=taken)
        looked_at = time.monotonic()


def _next(found: dict[Priority, list[Waiting]], turns: Turns) -> Waiting | None:
    for priority in turns.order():
        if found.get(priority):
            return found[priority].pop(0)
    return None
