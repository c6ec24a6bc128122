"""The queue: the executions that have not ended, as the store knows them at every moment.

Table ``execution_queue`` has a row for each, written in the transaction of the append that changes
it, so it is never behind. Everybody who looks for what waits or was left reads it here.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.events import EVENT_TYPES, DomainEvent
from nbledger_domain.execution import TERMINAL_EVENTS, Execution, Priority
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import QueueChange

PAGE: Final = 500
"""At most so many executions are found at a time."""

REMEMBERED_SECONDS: Final = 3600.0
"""For how long it counts that somebody was served, where nothing of theirs waits or runs."""

_REPAIR_PAGE: Final = 5000

_NEXT: Final = """
SELECT priority, execution_id, notebook_id, tenant_id, project_id, requested_at, kernel_type
FROM next_waiting($1, $2, $3, $4, $5)
"""

_AFTER: Final = """
SELECT priority, execution_id, notebook_id, tenant_id, project_id, requested_at, kernel_type
FROM execution_queue
WHERE state = 'waiting' AND kernel_type = $1 AND priority = $2
  AND (requested_at, execution_id) > ($3, $4) AND position <= $5
ORDER BY requested_at, execution_id LIMIT $6
"""

_WAITS_SINCE: Final = """
SELECT EXISTS (
    SELECT FROM execution_queue
    WHERE state = 'waiting' AND kernel_type = $1 AND priority = $2 AND requested_at < $3
)
"""

# Those that are claimed are few, and looked at each time. One whose events keep coming is held.
_UNLEASED: Final = """
SELECT q.execution_id
FROM execution_queue AS q
CROSS JOIN LATERAL (
    SELECT recorded_at FROM event
    WHERE stream_id = q.execution_id ORDER BY version DESC LIMIT 1
) AS last
WHERE q.state = 'claimed' AND q.since < clock_timestamp() - make_interval(secs => $1)
  AND last.recorded_at < clock_timestamp() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM execution_lease AS l WHERE l.execution_id = q.execution_id)
ORDER BY q.execution_id LIMIT $2
"""

# It was requested before it began to wait, and an index knows when (not by clock_timestamp(),
# which might be another one for each row).
_LATE: Final = """
SELECT execution_id FROM execution_queue
WHERE state = 'waiting' AND requested_at < statement_timestamp() - make_interval(secs => $1)
  AND since < statement_timestamp() - make_interval(secs => $1)
ORDER BY requested_at, execution_id LIMIT $2
"""

_WAITING: Final = """
SELECT tenant_id, project_id, level, sum(waiting) FROM queue_share
WHERE level IN (1, 2) AND tenant_id = ANY($1) AND waiting > 0
GROUP BY tenant_id, project_id, level
"""

_STATES: Final[Mapping[type[DomainEvent], QueueChange]] = {
    Execution.AttemptLost: QueueChange("waiting"),
    **dict.fromkeys(TERMINAL_EVENTS, QueueChange("ended")),
    Notebook.Deleted: QueueChange(None, notebook_limit=0),
}

# SQL compares the types as they are stored.
_SETTLING: Final = {
    name: state
    for state, events in (
        ("waiting", (Execution.Requested, Execution.AttemptLost)),
        ("claimed", (Execution.Claimed,)),
        ("ended", TERMINAL_EVENTS),
    )
    for event in events
    for name in EVENT_TYPES.stored_names(event.TYPE)
}


class Waiting(msgspec.Struct, frozen=True):
    """An execution that waits for a worker."""

    priority: Priority
    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    requested_at: datetime
    kernel_type: str

    @property
    def command(self) -> Command:
        """What its message says."""
        return Command(self.execution_id, self.notebook_id, self.tenant_id, self.project_id)


class ShareLimits(msgspec.Struct, frozen=True):
    """How many runs of a tenant, and of a project, may be in a state; ``None`` is no limit."""

    tenant: int | None = None
    project: int | None = None

    @classmethod
    def of(cls, tenant: int, project: int) -> "ShareLimits":
        """As settings have them, where 0 is no limit."""
        return cls(tenant or None, project or None)


NO_LIMITS: Final = ShareLimits()


def change_of(
    decided: Sequence[DomainEvent], limits: ShareLimits = NO_LIMITS
) -> QueueChange | None:
    """What an append of these events changes in the queue, and under which limits."""
    change: QueueChange | None = None
    for event in decided:
        if isinstance(event, Execution.Requested):
            change = QueueChange(
                "waiting",
                event.kernel_type,
                event.options.priority,
                tenant_limit=limits.tenant,
                project_limit=limits.project,
            )
        elif isinstance(event, Execution.Claimed):
            change = QueueChange(
                "claimed", tenant_limit=limits.tenant, project_limit=limits.project
            )
        elif isinstance(event, Notebook.IntegrationConfigured):
            change = QueueChange(None, notebook_limit=event.integration.max_concurrent_runs or 0)
        elif isinstance(event, Notebook.Created):
            if event.integration.max_concurrent_runs:
                change = QueueChange(None, notebook_limit=event.integration.max_concurrent_runs)
        else:
            change = _STATES.get(type(event), change)
    return change


async def next_waiting(
    pool: Pool,
    kernel_types: Collection[str],
    priorities: Sequence[Priority],
    *,
    limits: ShareLimits = NO_LIMITS,
    passed_over: Collection[UUID] = (),
) -> Waiting | None:
    """The run that a free slot takes next, in fair order; ``None`` when nothing may start.

    It is of the first of ``priorities`` that has any. Of several tenants it belongs to the one
    with the fewest running runs of its kernel type and priority, then to the one served least
    recently; likewise for the projects of the tenant and the notebooks of the project. What has
    reached its limit is left out, and so is what is ``passed_over``. Raises
    ``DatabaseUnavailableError``.
    """
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            _NEXT,
            list(kernel_types),
            list(priorities),
            limits.tenant,
            limits.project,
            list(passed_over),
        )
    return None if row is None else Waiting(*row)


async def waiting_after(
    pool: Pool,
    kernel_type: str,
    priority: Priority,
    after: tuple[datetime, UUID],
    *,
    through: int,
    limit: int = PAGE,
) -> list[Waiting]:
    """The next of a kernel type and priority that wait since position ``through`` or before.

    In the order of their requests, from the one that ``after`` names (its time and id).
    """
    async with acquire(pool) as connection:
        rows = await connection.fetch(_AFTER, kernel_type, priority, *after, through, limit)
    return [Waiting(*row) for row in rows]


async def waits_since(pool: Pool, kernel_type: str, priority: Priority, moment: datetime) -> bool:
    """Whether an execution of this kernel type and priority waits since before ``moment``."""
    async with acquire(pool) as connection:
        waits: bool = await connection.fetchval(_WAITS_SINCE, kernel_type, priority, moment)
    return waits


async def unleased(pool: Pool, *, silent_seconds: float) -> list[UUID]:
    """Claimed executions without a lease, of which nothing was recorded for so long."""
    return await _found(pool, _UNLEASED, silent_seconds)


async def late(pool: Pool, *, seconds: float) -> list[UUID]:
    """Executions that have waited for longer than ``seconds``, those requested first first."""
    return await _found(pool, _LATE, seconds)


async def forget_shares(pool: Pool) -> None:
    """Forget when tenants, projects and notebooks without runs were served, an hour after it."""
    async with acquire(pool) as connection:
        await connection.execute("SELECT forget_shares($1)", REMEMBERED_SECONDS)


class Room:
    """How many more runs may wait, by what waited at one moment and was taken since."""

    def __init__(
        self, limits: ShareLimits, tenants: dict[UUID, int], projects: dict[tuple[UUID, UUID], int]
    ) -> None:
        self._limits = limits
        self._tenants = tenants
        self._projects = projects

    def take(self, tenant_id: UUID, project_id: UUID) -> bool:
        """Take the room of one run; whether there was any."""
        of_tenant = self._tenants.get(tenant_id, 0)
        of_project = self._projects.get((tenant_id, project_id), 0)
        if _full(of_tenant, self._limits.tenant) or _full(of_project, self._limits.project):
            return False
        self._tenants[tenant_id] = of_tenant + 1
        self._projects[tenant_id, project_id] = of_project + 1
        return True

    def give_back(self, tenant_id: UUID, project_id: UUID) -> None:
        """Give back the room of a run that was taken, as there is none."""
        self._tenants[tenant_id] -= 1
        self._projects[tenant_id, project_id] -= 1


def _full(waiting: int, limit: int | None) -> bool:
    return limit is not None and waiting >= limit


async def waiting_room(
    pool: Pool, limits: ShareLimits, places: Collection[tuple[UUID, UUID]]
) -> Room:
    """How many more runs may wait in these projects, each named by its tenant and itself."""
    tenants: dict[UUID, int] = {}
    projects: dict[tuple[UUID, UUID], int] = {}
    async with acquire(pool) as connection:
        rows = await connection.fetch(_WAITING, [tenant for tenant, _ in places])
    for tenant_id, project_id, level, waiting in rows:
        if level == 1:
            tenants[tenant_id] = waiting
        else:
            projects[tenant_id, project_id] = waiting
    return Room(limits, tenants, projects)


async def repair(pool: Pool) -> int:
    """Bring rows that are not as the events say back in line; returns how many there were.

    Appends keep them right. This is for what slipped in around an update or an erasure.
    """
    repaired = 0
    beyond: UUID | None = UUID(int=0)
    while beyond is not None:
        async with acquire(pool) as connection:
            row = await connection.fetchrow(
                "SELECT last, repaired FROM repair_queue($1, $2, $3, $4)",
                list(_SETTLING),
                list(_SETTLING.values()),
                beyond,
                _REPAIR_PAGE,
            )
        assert row is not None  # noqa: S101 (a function gives one row)
        repaired += row["repaired"]
        beyond = row["last"]
    return repaired


async def _found(pool: Pool, query: str, seconds: float) -> list[UUID]:
    async with acquire(pool) as connection:
        rows = await connection.fetch(query, seconds, PAGE)
    return [row[0] for row in rows]
