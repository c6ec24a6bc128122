"""Reading all events of a project or tenant on and on, a window of positions at a time.

Each window is read by statements of its own, and no transaction outlives one. However few events
meet a filter, a window looks at a bounded number, and tells how far it has come.
"""

from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_projections.read_models.histories import pages
from nbledger_projections.read_models.histories.entries import HistoryEntry, with_context
from nbledger_projections.read_models.histories.selection import (
    Between,
    Filter,
    Selection,
    of_project,
    of_tenant,
)

LOOKED_AT: Final = 5000
"""Events of the project or tenant that a window with a filter looks at."""

WINDOW_BYTES: Final = 4 * 1024 * 1024
"""A window ends behind the event whose data passes so many bytes in memory."""

_UP_TO: Final = """
SELECT max(position) AS last, count(*) AS events
FROM (SELECT position FROM event WHERE {conditions} ORDER BY {ordered} LIMIT {limit}) AS next
"""


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """Whose events, and which of them. Any project of the tenant by ``ALL_PROJECTS``."""

    tenant_id: UUID
    project_id: UUID
    filter: Filter = Filter()

    @property
    def followed(self) -> UUID:
        """By whose events there may be more: the project's or the tenant's."""
        return self.tenant_id if self.project_id == ALL_PROJECTS else self.project_id


class Window(msgspec.Struct, frozen=True):
    """Events in order. All up to ``position`` have been looked at; whether these are ``all``."""

    entries: list[HistoryEntry]
    position: int
    all: bool


async def window(
    pool: Pool, feed: Feed, *, after: int, until: int | None = None, limit: int
) -> Window:
    """The next events after position ``after``, at most ``limit``, up to ``until`` or to the end.

    An event that is committed later has a later position, so nothing is missed by whoever goes on
    after ``position``.
    """
    async with acquire(pool) as connection:
        end = await moments.head(connection)
        if until is not None:
            end = min(end, until)
        if after >= end:
            return Window([], after, all=True)
        last = await _last(connection, feed, after, end)
        scope = _scope(feed).within(Between(after=after, before=last + 1), feed.filter)
        found = await pages.rows_of(connection, scope, limit=limit, most_bytes=WINDOW_BYTES)
        entries = await with_context(connection, feed.tenant_id, found.entries)
    position = entries[-1].position if found.more else last
    return Window(entries, position, all=position >= end)


async def _last(connection: PooledConnection, feed: Feed, after: int, end: int) -> int:
    """The last position that the window looks at."""
    if feed.filter == Filter():
        return end
    scope = _scope(feed).within(Between(after=after, before=end + 1))
    query = _UP_TO.format(conditions=scope.text, ordered=scope.ordered("oldest"), limit=LOOKED_AT)
    row = await connection.fetchrow(query, *scope.values)
    return end if row is None or row["events"] < LOOKED_AT else int(row["last"])


def _scope(feed: Feed) -> Selection:
    if feed.project_id == ALL_PROJECTS:
        return of_tenant(feed.tenant_id)
    return of_project(feed.tenant_id, feed.project_id)
