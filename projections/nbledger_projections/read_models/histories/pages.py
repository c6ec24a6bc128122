"""Reading events in pages, each in a statement of its own, bounded in number and bytes."""

from typing import Final
from uuid import UUID

import msgspec

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_projections.read_models.histories.entries import (
    READ_COLUMNS,
    HistoryEntry,
    entries_of,
    with_context,
)
from nbledger_projections.read_models.histories.selection import Between, Filter, Order, Selection

PAGE_BYTES: Final = 16 * 1024 * 1024
"""A page ends behind the event whose data passes so many bytes in memory."""


class HistoryPage(msgspec.Struct, frozen=True):
    """Events in the order asked for; whether there are ``more``."""

    entries: list[HistoryEntry]
    more: bool


RAW_BYTES: Final = """CASE WHEN pg_column_compression(data) IS NULL
    THEN pg_column_size(data) ELSE octet_length(data::text) END"""
"""The bytes of an event's data in memory: what is stored of it may be a hundredth of that."""

# As many as asked for, but no further than the one that passes so many bytes: an event may hold a
# whole notebook. Step by step, so that no data is unpacked for its size beyond that one.
_PAGE: Final = """
WITH RECURSIVE next AS MATERIALIZED (
    SELECT array_agg(position ORDER BY position {order}) AS positions FROM (
        SELECT position FROM event WHERE {conditions} ORDER BY {ordered} LIMIT {limit}
    ) AS found
), measured (place, bytes) AS (
    SELECT 0, 0::bigint
    UNION ALL
    SELECT place + 1, bytes + coalesce(
        (SELECT {raw_bytes} FROM event WHERE position = positions[place + 1]), 0
    )
    FROM measured, next WHERE place < cardinality(positions) AND bytes <= {bytes}
)
SELECT {columns}, cardinality(positions) AS available
FROM measured CROSS JOIN next CROSS JOIN LATERAL (
    SELECT * FROM event WHERE position = positions[place] OFFSET 0
) AS event
ORDER BY place
"""


async def rows_of(
    connection: PooledConnection,
    scope: Selection,
    *,
    order: Order = "oldest",
    limit: int,
    most_bytes: int = PAGE_BYTES,
) -> HistoryPage:
    """At most ``limit`` events of ``scope``, as they stand by themselves."""
    query = _PAGE.format(
        columns=READ_COLUMNS,
        conditions=scope.text,
        raw_bytes=RAW_BYTES,
        ordered=scope.ordered(order),
        order="ASC" if order == "oldest" else "DESC",
        limit=limit + 1,
        bytes=most_bytes,
    )
    rows = await connection.fetch(query, *scope.values)
    shown = rows[:limit]
    return HistoryPage(entries_of(shown), bool(rows) and rows[0]["available"] > len(shown))


async def page(
    pool: Pool,
    tenant_id: UUID,
    scope: Selection,
    *,
    bounds: Between,
    filter: Filter | None = None,  # noqa: A002
    order: Order = "oldest",
    limit: int,
) -> HistoryPage:
    """At most ``limit`` events, with what other events tell of them."""
    async with acquire(pool) as connection:
        found = await rows_of(connection, scope.within(bounds, filter), order=order, limit=limit)
        return HistoryPage(await with_context(connection, tenant_id, found.entries), found.more)


async def is_there(pool: Pool, scope: Selection) -> bool:
    """Whether there is any event."""
    bounded = scope.within(Between())
    query = f"SELECT EXISTS (SELECT FROM event WHERE {bounded.text})"  # noqa: S608 (constants)
    async with acquire(pool) as connection:
        return bool(await connection.fetchval(query, *bounded.values))
