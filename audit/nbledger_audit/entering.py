"""Entering events in the logs of their tenants, each of which is damaged, or sound, by itself.

The sealer's position passes the events of a log that is damaged, so that all others go on. They are
entered once the log is repaired: what is missing is told by the log itself, which names its events.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec
import structlog

from nbledger_audit import logs
from nbledger_audit.entries import COLUMNS, Recorded, recorded
from nbledger_domain.transparency.tiles import WIDTH
from nbledger_infrastructure.postgres.database import PooledConnection

log = structlog.get_logger(__name__)

_STATES: Final = """
SELECT tenant_id, coalesce(log.size, 0) AS size,
    coalesce(last.index * $2 + cardinality(last.positions), 0) AS named,
    coalesce(last.positions[cardinality(last.positions)], 0) AS position
FROM unnest($1::uuid[]) AS wanted (tenant_id) LEFT JOIN transparency_log AS log USING (tenant_id)
LEFT JOIN LATERAL (
    SELECT index, positions FROM log_bundle
    WHERE tenant_id = wanted.tenant_id ORDER BY index DESC LIMIT 1
) AS last ON true
"""

_TENANTS: Final = """
SELECT tenant_id FROM transparency_log WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2
"""

# By the index of projects: those of each tenant one by one, and the end of each.
_PASSED: Final = """
SELECT EXISTS (
    WITH RECURSIVE project (id) AS (
        (SELECT project_id FROM event WHERE tenant_id = $1 ORDER BY project_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT project_id FROM event
            WHERE tenant_id = $1 AND project_id > project.id ORDER BY project_id LIMIT 1
        ) FROM project WHERE project.id IS NOT NULL
    )
    SELECT FROM project, LATERAL (
        SELECT FROM event
        WHERE tenant_id = $1 AND project_id = project.id AND position > $2 AND position <= $3
        ORDER BY position LIMIT 1
    ) AS passed
)
"""

_MISSING: Final = f"""
SELECT {COLUMNS} FROM event
WHERE tenant_id = $1 AND position > $2 AND position <= $3 ORDER BY position LIMIT $4
"""  # noqa: S608 (constants)

_TENANTS_AT_ONCE: Final = 500
_DAMAGE: Final = (LookupError, ValueError)


class _State(msgspec.Struct, frozen=True):
    """A log as it is kept: its entries, how many events it names, and where the last of them is."""

    size: int
    named: int
    position: int

    @property
    def fault(self) -> str | None:
        if self.size == self.named:
            return None
        return f"it has {self.size} entries, and names the events of {self.named}"


class Entering:
    """Enters events of all tenants but those whose logs are damaged.

    ``halted`` has these, and why; their events are passed over until :meth:`catch_up` succeeds.
    """

    def __init__(self) -> None:
        self.halted: dict[UUID, str] = {}

    async def find_halted(self, connection: PooledConnection, position: int) -> None:
        """Find logs that lack events up to a position: a sealer before this one passed them over.

        To be called before anything is entered after that position.
        """
        after = UUID(int=0)
        while rows := await connection.fetch(_TENANTS, after, _TENANTS_AT_ONCE):
            tenants: list[UUID] = [row["tenant_id"] for row in rows]
            for tenant_id, state in (await _states(connection, tenants)).items():
                if state.fault is not None:
                    self._halt(tenant_id, state.fault)
                elif await connection.fetchval(_PASSED, tenant_id, state.position, position):
                    self._halt(tenant_id, "it lacks events that were passed over")
            after = tenants[-1]

    async def enter(self, connection: PooledConnection, events: Sequence[Recorded]) -> None:
        """Enter events as :func:`logs.add` does; whose log is damaged is halted."""
        wanted = [event for event in events if event.tenant_id not in self.halted]
        states = await _states(connection, {event.tenant_id for event in wanted})
        for tenant_id, state in states.items():
            if state.fault is not None:
                self._halt(tenant_id, state.fault)
        wanted = [event for event in wanted if event.tenant_id not in self.halted]
        try:
            await _add(connection, wanted)
        except _DAMAGE:
            for tenant_id in dict.fromkeys(event.tenant_id for event in wanted):
                try:
                    await _add(connection, [e for e in wanted if e.tenant_id == tenant_id])
                except _DAMAGE as error:
                    self._halt(tenant_id, f"its tiles are damaged: {error!r}")

    async def catch_up(
        self, connection: PooledConnection, tenant_id: UUID, position: int, limit: int
    ) -> bool:
        """Enter events up to a position that a log lacks; returns whether there may be more.

        The log goes on with those of all tenants once it has them. To be called within a
        transaction, as :meth:`enter`.
        """
        state = (await _states(connection, [tenant_id]))[tenant_id]
        if state.fault is not None:
            self._halt(tenant_id, state.fault)
            return False
        rows = await connection.fetch(_MISSING, tenant_id, state.position, position, limit)
        try:
            await _add(connection, [recorded(row) for row in rows])
        except _DAMAGE as error:
            self._halt(tenant_id, f"its tiles are damaged: {error!r}")
            return False
        if len(rows) == limit:
            return True
        del self.halted[tenant_id]
        log.info("log goes on", tenant_id=str(tenant_id))
        return False

    def _halt(self, tenant_id: UUID, reason: str) -> None:
        if self.halted.get(tenant_id) != reason:
            log.error("log halted", tenant_id=str(tenant_id), reason=reason)
        self.halted[tenant_id] = reason


async def _add(connection: PooledConnection, events: Sequence[Recorded]) -> None:
    if events:
        async with connection.transaction():
            await logs.add(connection, events)


async def _states(connection: PooledConnection, tenants: Iterable[UUID]) -> dict[UUID, _State]:
    rows = await connection.fetch(_STATES, list(tenants), WIDTH)
    return {row["tenant_id"]: _State(row["size"], row["named"], row["position"]) for row in rows}
