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
"""A page ends behind the event whose data passes so many bytes as stored."""


class HistoryPage(msgspec.Struct, frozen=True):
    """Events in the order asked for; whether there are ``more``."""

    entries: list[HistoryEntry]
    more: bool


# As many as asked for, but no further than the one that passes so many bytes as stored: an event
# may hold a whole notebook.
_PAGE: Final = """
SELECT {columns}, available FROM (
    SELECT *, count(*) OVER () AS available, sum(pg_column_size(data)) OVER (
        ORDER BY {by} {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM (
        SELECT * FROM event WHERE {conditions} ORDER BY {ordered} LIMIT {limit}
    ) AS next
) AS measured
WHERE coalesce(bytes_before, 0) <= {bytes} ORDER BY {by} {order}
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
        by=scope.by,
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
