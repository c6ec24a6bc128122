"""How far each outlet has each log: what it is still to get, and what it has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_infrastructure.postgres.database import PooledConnection

_DUE: Final = """
SELECT log.tenant_id, log.signed_size, log.confirmed_at,
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
ON CONFLICT (outlet, tenant_id) DO UPDATE SET
    place = excluded.place, size = excluded.size, confirmed_at = excluded.confirmed_at,
    delivered_at = excluded.delivered_at
"""


class Due(msgspec.Struct, frozen=True):
    """A log of which an outlet is to get the checkpoint of ``size`` entries.

    ``delivered`` is the size of what it has, None where it has nothing; ``moved`` says that it is
    another one than before, which had something.
    """

    tenant_id: UUID
    size: int
    confirmed_at: datetime
    delivered: int | None
    moved: bool


class Delivered(msgspec.Struct, frozen=True):
    """What an outlet has of a log: ``size`` entries, as confirmed at that time."""

    tenant_id: UUID
    size: int
    confirmed_at: datetime


async def due(
    connection: PooledConnection, outlet: str, place: str, *, every_seconds: float, limit: int
) -> list[Due]:
    """Logs of which an outlet is to get the newest checkpoint, by tenant.

    What has been confirmed since the last delivery is due, ``every_seconds`` after that one.
    """
    rows = await connection.fetch(_DUE, outlet, place, every_seconds, limit)
    return [
        Due(
            row["tenant_id"],
            row["signed_size"],
            row["confirmed_at"],
            row["delivered"],
            bool(row["moved"]),
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
