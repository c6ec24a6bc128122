"""Checkpoints that somebody else has seen: a witness by a cosignature, an authority by a stamp.

They say when the log was as they have it, and so bound when events can have been recorded.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from nbledger_audit import logs
from nbledger_audit.bundles.targets import BundleTarget
from nbledger_infrastructure.postgres.database import PooledConnection

# Of each hour the last one, and rather one with a stamp.
_SIZES: Final = """
SELECT size FROM (
    SELECT DISTINCT ON (date_trunc('hour', signed_at)) size
    FROM log_checkpoint AS signed CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM log_timestamp AS stamp
            WHERE stamp.tenant_id = signed.tenant_id AND stamp.size = signed.size
        ) AS stamped
    ) AS seen
    WHERE tenant_id = $1 AND size < $2 AND (stamped OR cosignatures <> '')
    ORDER BY date_trunc('hour', signed_at), stamped DESC, size DESC
) AS hourly ORDER BY size
"""

# When the log was there first, and when it still was.
_STAMPS: Final = """
SELECT response FROM (
    (SELECT stamped_at, response FROM log_timestamp WHERE tenant_id = $1 AND size = $2
    ORDER BY stamped_at LIMIT 1)
    UNION
    (SELECT stamped_at, response FROM log_timestamp WHERE tenant_id = $1 AND size = $2
    ORDER BY stamped_at DESC LIMIT 1)
) AS ends ORDER BY stamped_at
"""


class SeenCheckpoints:
    """The earlier checkpoints of a bundle: all of ``sizes`` in a whole one.

    A partial one has those on both sides of its entries, which bound their times as well as all do.
    """

    def __init__(self, sizes: Sequence[int], *, whole: bool) -> None:
        self._sizes = sizes
        self._wanted = set(sizes) if whole else set[int]()

    def around(self, number: int) -> None:
        """Take those on both sides of an entry."""
        after = bisect_right(self._sizes, number)
        self._wanted.update(self._sizes[max(after - 1, 0) : after + 1])

    @property
    def sizes(self) -> list[int]:
        """How many entries each of them has."""
        return sorted(self._wanted)


async def seen_sizes(connection: PooledConnection, tenant_id: UUID, size: int) -> list[int]:
    """The sizes of checkpoints of fewer entries that somebody else has seen, one of each hour."""
    rows = await connection.fetch(_SIZES, tenant_id, size)
    return [row["size"] for row in rows]


async def write_stamps(
    connection: PooledConnection, target: BundleTarget, tenant_id: UUID, size: int, name: str
) -> None:
    """Write the stamps of the checkpoint ``name``: the first one, and the last if it is another."""
    stamps = await connection.fetch(_STAMPS, tenant_id, size)
    for stamp, ending in zip(stamps, ("tsr", "last.tsr"), strict=False):
        target.write(f"{name}.{ending}", stamp["response"])


async def write_checkpoint(
    connection: PooledConnection, target: BundleTarget, tenant_id: UUID, size: int
) -> None:
    """Write an earlier checkpoint and its stamps. Raises ``LookupError`` where it is not there."""
    note = await logs.checkpoint(connection, tenant_id, size)
    if note is None:
        raise LookupError(f"there is no checkpoint of {size} entries")
    name = f"checkpoints/{size}"
    target.write(name, note.encode())
    await write_stamps(connection, target, tenant_id, size, name)
