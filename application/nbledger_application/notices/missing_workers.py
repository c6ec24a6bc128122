"""Kernel types for which runs wait while no worker offers them: told to each project concerned."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
import structlog

from nbledger_application import repository
from nbledger_domain.notices import KernelNotice, OutageEnd, kernel_notice_id
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.actors import NOTICES
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordConflictError,
    Stream,
)

log = structlog.get_logger(__name__)

PAGE: Final = 500

# The counts of the queue: a row for each tenant that has runs.
_WAITED_FOR: Final = """
SELECT DISTINCT kernel_type FROM queue_share WHERE level = 1 AND waiting > 0
"""

_FIRST: Final = """
    SELECT min(first.requested_at) FROM queue_share AS n
    CROSS JOIN LATERAL (
        SELECT q.requested_at FROM execution_queue AS q
        WHERE q.notebook_id = n.notebook_id AND q.kernel_type = n.kernel_type
            AND q.priority = n.priority AND q.state = 'waiting'
        ORDER BY q.requested_at, q.execution_id LIMIT 1
    ) AS first
    WHERE n.level = 3 AND n.tenant_id = s.tenant_id AND n.project_id = s.project_id
        AND n.kernel_type = s.kernel_type AND n.waiting > 0
"""
"""When the first of the runs was asked for that wait for the kernel type in project ``s``."""

_CONCERNED: Final = f"""
SELECT s.tenant_id, s.project_id, s.kernel_type, s.waiting, ({_FIRST}) AS waiting_since
FROM (
    SELECT tenant_id, project_id, kernel_type, sum(waiting)::integer AS waiting FROM queue_share
    WHERE level = 2 AND waiting > 0 AND kernel_type = ANY($1)
    GROUP BY tenant_id, project_id, kernel_type
) AS s
WHERE NOT EXISTS (
    SELECT FROM kernel_outage AS o
    WHERE o.kernel_type = s.kernel_type AND o.tenant_id = s.tenant_id
        AND o.project_id = s.project_id
)
LIMIT $2
"""  # noqa: S608 (constants)

_OF_PROJECT: Final = f"""
SELECT s.kernel_type, s.waiting, ({_FIRST}) AS waiting_since
FROM (
    SELECT tenant_id, project_id, kernel_type, sum(waiting)::integer AS waiting FROM queue_share
    WHERE level = 2 AND waiting > 0 AND tenant_id = $1 AND project_id = $2
    GROUP BY tenant_id, project_id, kernel_type
) AS s
ORDER BY s.kernel_type
"""  # noqa: S608 (constants)

_OVER: Final = """
SELECT o.tenant_id, o.project_id, o.kernel_type, o.since, o.kernel_type = ANY($1)
FROM kernel_outage AS o
WHERE o.kernel_type = ANY($1) OR NOT EXISTS (
    SELECT FROM queue_share AS s
    WHERE s.level = 2 AND s.tenant_id = o.tenant_id AND s.project_id = o.project_id
        AND s.kernel_type = o.kernel_type AND s.waiting > 0
)
LIMIT $2
"""


class WithoutWorkers(msgspec.Struct, frozen=True):
    """A kernel type that no live worker offers; ``waiting`` runs of the project wait for it.

    The first of these was asked for at ``waiting_since``.
    """

    kernel_type: str
    waiting: int
    waiting_since: datetime


async def of_project(
    pool: Pool, tenant_id: UUID, project_id: UUID, offered: Collection[str]
) -> list[WithoutWorkers]:
    """What the runs of a project wait for now that is not among what is ``offered``."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(_OF_PROJECT, tenant_id, project_id)
    # A run may have begun between the two counts: then nothing of it waits.
    return [WithoutWorkers(*row) for row in rows if row[0] not in offered and row[2] is not None]


class MissingWorkers:
    """Finds kernel types that have been without workers for ``seconds``, and tells of them.

    It asks ``check`` before each append.
    """

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        check: Callable[[], Awaitable[None]],
        *,
        seconds: float,
    ) -> None:
        self._check = check
        self._pool = pool
        self._store = store
        self._seconds = seconds
        self._missed: dict[str, datetime] = {}

    async def look(self, now: datetime) -> None:
        """Tell each project concerned of what is missing by ``now``, and of what is over."""
        async with acquire(self._pool) as connection:
            waited_for = {row[0] for row in await connection.fetch(_WAITED_FOR)}
            told: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM kernel_outage)")
        if not waited_for and not told:
            self._missed.clear()
            return
        slots = await worker_registry.slots(self._pool)
        self._missed = {
            each: self._missed.get(each, now) for each in waited_for if not slots.get(each)
        }
        if told:
            await self._tell_of_ends([each for each in slots if slots[each]])
        due = {
            each: since
            for each, since in self._missed.items()
            if (now - since).total_seconds() >= self._seconds
        }
        if due:
            await self._tell(due)

    async def _tell(self, due: Mapping[str, datetime]) -> None:
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_CONCERNED, list(due), PAGE)
        for tenant_id, project_id, kernel_type, waiting, waiting_since in rows:
            since = due[kernel_type]
            if waiting_since is None:
                continue
            if await self._append(
                tenant_id,
                project_id,
                KernelNotice.Unavailable(
                    originator_id=kernel_notice_id(tenant_id, project_id, kernel_type),
                    originator_version=0,
                    timestamp=clock.now(),
                    kernel_type=kernel_type,
                    since=since,
                    waiting=waiting,
                    waiting_since=waiting_since,
                ),
            ):
                log.warning("kernel type without workers", kernel_type=kernel_type, waiting=waiting)

    async def _tell_of_ends(self, offered: Collection[str]) -> None:
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_OVER, offered, PAGE)
        for tenant_id, project_id, kernel_type, since, alive in rows:
            reason: OutageEnd = "worker_alive" if alive else "nothing_waits"
            if await self._append(
                tenant_id,
                project_id,
                KernelNotice.Available(
                    originator_id=kernel_notice_id(tenant_id, project_id, kernel_type),
                    originator_version=0,
                    timestamp=clock.now(),
                    kernel_type=kernel_type,
                    since=since,
                    reason=reason,
                ),
            ):
                log.info("kernel type has workers again", kernel_type=kernel_type, reason=reason)

    async def _append(self, tenant_id: UUID, project_id: UUID, event: KernelNotice.Event) -> bool:
        """Append an event after the last of its stream, unless that says the same.

        What somebody else has appended meanwhile is found at the next look.
        """
        await self._check()
        notice_id = event.originator_id
        loaded = await aggregates.load(self._store, KernelNotice, notice_id)
        missing, version = (
            (False, 0) if loaded is None else (loaded.aggregate.missing, loaded.aggregate.version)
        )
        if missing == event.MISSING:
            return False
        try:
            await repository.append(
                self._store,
                Stream(notice_id, notice_id, tenant_id, project_id),
                [msgspec.structs.replace(event, originator_version=version + 1)],
                Metadata(actor=NOTICES, correlation_id=str(notice_id)),
            )
        except RecordConflictError:
            return False
        return True
