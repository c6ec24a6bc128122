"""Timestamps (RFC 3161) of checkpoints as they are kept: who says since when a log was so."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_infrastructure.postgres.database import PooledConnection

_KEEP: Final = """
INSERT INTO log_timestamp (tenant_id, stamped_at, size, response) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""

_OF_LOG: Final = """
SELECT stamp.size, stamped_at, checkpoint.note, response
FROM log_timestamp AS stamp
JOIN log_checkpoint AS checkpoint USING (tenant_id, size)
WHERE tenant_id = $1 ORDER BY stamped_at DESC, stamp.size DESC LIMIT $2 OFFSET $3
"""

_NEWEST: Final = """
SELECT tenant_id, stamped_at FROM unnest($1::uuid[]) AS wanted (tenant_id)
JOIN LATERAL (
    SELECT stamped_at FROM log_timestamp AS stamp
    WHERE stamp.tenant_id = wanted.tenant_id ORDER BY stamped_at DESC LIMIT 1
) AS newest ON true
"""


class Timestamp(msgspec.Struct, frozen=True):
    """What an authority says: at ``stamped_at`` the text of this checkpoint was there.

    ``note`` is the checkpoint, a signed note of ``size`` entries, of which the part above the empty
    line is stamped, with its last line feed. ``response`` is the authority's answer in DER
    (TimeStampResp), with its certificates.
    """

    size: int
    stamped_at: datetime
    note: str
    response: bytes


async def keep(
    connection: PooledConnection, tenant_id: UUID, size: int, stamped_at: datetime, response: bytes
) -> None:
    """Keep a timestamp of the checkpoint of so many entries."""
    await connection.execute(_KEEP, tenant_id, stamped_at, size, response)


async def timestamps(
    connection: PooledConnection, tenant_id: UUID, *, limit: int | None = None, offset: int = 0
) -> list[Timestamp]:
    """The timestamps of a tenant's log, the newest first; all of them without a limit."""
    rows = await connection.fetch(_OF_LOG, tenant_id, limit, offset)
    return [Timestamp(*row.values()) for row in rows]


async def newest(
    connection: PooledConnection, tenant_ids: Iterable[UUID]
) -> Mapping[UUID, datetime]:
    """The newest time that an authority has told of each of these logs, where there is one."""
    rows = await connection.fetch(_NEWEST, list(tenant_ids))
    return {row["tenant_id"]: row["stamped_at"] for row in rows}
