"""How far each outlet has each log: what it is still to get, and what it has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_audit.stamps import Timestamp
from nbledger_infrastructure.postgres.conflicts import retried
from nbledger_infrastructure.postgres.database import PooledConnection

_DUE: Final = """
SELECT log.tenant_id, log.signed_size, log.confirmed_at,
    extract(epoch FROM clock_timestamp() - log.confirmed_at)::float8 AS age,
    CASE WHEN delivery.place = $2 THEN delivery.size END AS delivered,
    delivery.place <> $2 AS moved
FROM transparency_log AS log
LEFT JOIN log_delivery AS delivery ON delivery.outlet = $1 AND delivery.tenant_id = log.tenant_id
WHERE log.signed_size > 0 AND log.confirmed_at IS NOT NULL
    AND (
        delivery.place IS DISTINCT FROM $2
        OR (
            log.confirmed_at > delivery.confirmed_at
            AND delivery.delivered_at <= clock_timestamp() - make_interval(secs => $3)
        )
    )
ORDER BY log.tenant_id LIMIT $4
"""

_DELIVERED: Final = """
INSERT INTO log_delivery (outlet, place, tenant_id, size, confirmed_at)
SELECT $1, $2, * FROM unnest($3::uuid[], $4::bigint[], $5::timestamptz[])
    AS had (tenant_id, size, confirmed_at)
ORDER BY tenant_id
ON CONFLICT (outlet, tenant_id) DO UPDATE SET
    place = excluded.place, size = excluded.size, confirmed_at = excluded.confirmed_at,
    delivered_at = excluded.delivered_at
"""


_ASK_ANEW: Final = """
WITH asked AS (
    SELECT tenant_id FROM transparency_log WHERE tenant_id = ANY($1)
    ORDER BY tenant_id FOR NO KEY UPDATE
)
UPDATE transparency_log AS log SET renewal = true FROM asked
WHERE log.tenant_id = asked.tenant_id
"""

# Of a place that is new all timestamps are due.
_STAMPS_DUE: Final = """
SELECT log.tenant_id, stamp.size, stamp.stamped_at, checkpoint.note, stamp.response
FROM transparency_log AS log
LEFT JOIN log_delivery AS delivery ON delivery.outlet = $1 AND delivery.tenant_id = log.tenant_id
CROSS JOIN LATERAL (
    SELECT size, stamped_at, response FROM log_timestamp AS kept
    WHERE kept.tenant_id = log.tenant_id AND (
        delivery.place IS DISTINCT FROM $2 OR kept.stamped_at > delivery.confirmed_at
    )
    ORDER BY stamped_at LIMIT $3
) AS stamp
JOIN log_checkpoint AS checkpoint
    ON checkpoint.tenant_id = log.tenant_id AND checkpoint.size = stamp.size
ORDER BY log.tenant_id, stamp.stamped_at LIMIT $3
"""


class DueDelivery(msgspec.Struct, frozen=True):
    """A log of which an outlet is to get the checkpoint of ``size`` entries.

    ``delivered`` is the size of what it has, None where it has nothing; ``moved`` says that it is
    another one than before, which had something. ``age_seconds`` is since ``confirmed_at``.
    """

    tenant_id: UUID
    size: int
    confirmed_at: datetime
    delivered: int | None
    moved: bool
    age_seconds: float


class Delivered(msgspec.Struct, frozen=True):
    """What an outlet has of a log: ``size`` entries, as confirmed at that time."""

    tenant_id: UUID
    size: int
    confirmed_at: datetime


async def due(
    connection: PooledConnection, outlet: str, place: str, *, every_seconds: float, limit: int
) -> list[DueDelivery]:
    """Logs of which an outlet is to get the newest checkpoint, by tenant.

    What has been confirmed since the last delivery is due, ``every_seconds`` after that one.
    """
    rows = await connection.fetch(_DUE, outlet, place, every_seconds, limit)
    return [
        DueDelivery(
            row["tenant_id"],
            row["signed_size"],
            row["confirmed_at"],
            row["delivered"],
            bool(row["moved"]),
            row["age"],
        )
        for row in rows
    ]


async def delivered(
    connection: PooledConnection, outlet: str, place: str, have: Sequence[Delivered]
) -> None:
    """Note what an outlet has."""
    await connection.execute(
        _DELIVERED,
        outlet,
        place,
        [each.tenant_id for each in have],
        [each.size for each in have],
        [each.confirmed_at for each in have],
    )


async def ask_anew(connection: PooledConnection, tenant_ids: Sequence[UUID]) -> None:
    """Have the checkpoints of these logs signed anew, so that it is known what they cover."""
    if tenant_ids:
        await retried(lambda: connection.execute(_ASK_ANEW, tenant_ids))


async def stamps_due(
    connection: PooledConnection, outlet: str, place: str, limit: int
) -> list[tuple[UUID, Timestamp]]:
    """Timestamps that an outlet is to get, those of each log in order."""
    rows = await connection.fetch(_STAMPS_DUE, outlet, place, limit)
    return [(tenant_id, Timestamp(*rest)) for tenant_id, *rest in (row.values() for row in rows)]
