"""The events of a scope, in order of numbers, as one transaction sees them.

Everything is read in batches that are bounded by their bytes, whatever the size of the log.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from itertools import zip_longest
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from nbledger_audit import logs
from nbledger_audit.bundles.lines import Content
from nbledger_audit.bundles.scopes import SUBJECTS, HistoryScope
from nbledger_audit.entries import COLUMNS, recorded
from nbledger_domain.transparency.tiles import WIDTH
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import moments

BATCH_EVENTS: Final = 4 * WIDTH
BATCH_BYTES: Final = 4 << 20
"""As stored, compressed; the event that passes it is the last one of its batch."""

# The planner takes a table that is not analysed for a small one; every look-up here is by an index.
PLANS: Final = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off
"""

_PLACES: Final = """
SELECT index * 256 + place - 1 AS number, position
FROM log_bundle, unnest(positions) WITH ORDINALITY AS entered (position, place)
WHERE tenant_id = $1 AND index BETWEEN $2 AND $3 ORDER BY index, place
"""

_NUMBERS: Final = """
SELECT bundle.index * 256 + array_position(bundle.positions, wanted.position) - 1 AS number,
    wanted.position
FROM unnest($2::bigint[]) AS wanted (position)
CROSS JOIN LATERAL (
    SELECT index, positions FROM log_bundle
    WHERE tenant_id = $1 AND first_position <= wanted.position
    ORDER BY first_position DESC LIMIT 1
) AS bundle
WHERE array_position(bundle.positions, wanted.position) IS NOT NULL
ORDER BY wanted.position
"""

_BEFORE: Final = """
SELECT index, positions FROM log_bundle WHERE tenant_id = $1 AND first_position < $2
ORDER BY first_position DESC LIMIT 1
"""

_OF_PROJECT: Final = """
SELECT position FROM event WHERE position = ANY($1) AND tenant_id = $2 AND project_id = $3
"""

_OF_SUBJECT: Final = """
SELECT position FROM event
WHERE subject_id = $1 AND tenant_id = $2 AND position >= $3 AND position < $4
ORDER BY position LIMIT $5
"""

_OF_STREAM: Final = """
SELECT position FROM event
WHERE stream_id = $1 AND tenant_id = $2 AND position >= $3 AND position < $4
ORDER BY version LIMIT $5
"""

# At least the first one, whatever its size.
_EVENTS: Final = f"""
SELECT {COLUMNS}, data, metadata, salt, metadata_salt FROM (
    SELECT *, sum(coalesce(pg_column_size(data), 0)) OVER (
        ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM event WHERE position = ANY($1) AND tenant_id = $2
) AS measured
WHERE coalesce(bytes_before, 0) <= {BATCH_BYTES} ORDER BY position
"""  # noqa: S608 (constants)

_FIRST_OF_STREAM: Final = """
SELECT type, project_id FROM event WHERE stream_id = $1 AND version = 1 AND tenant_id = $2
"""


class HistoryAlteredError(Exception):
    """An event of the log is no longer in the store."""


class LogPlace(msgspec.Struct, frozen=True):
    """Where an event is: its number in the log of its tenant, and its position in the store."""

    number: int
    position: int


class Selected(msgspec.Struct, frozen=True):
    """An event of a scope."""

    place: LogPlace
    entry: bytes
    content: Content
    stream_id: UUID
    subject_id: UUID
    project_id: UUID
    version: int


class LogSelection:
    """The events of ``scope`` among the first ``size`` entries of its tenant's log.

    ``connection`` is within the transaction. ``positions`` of the time range begin with ``first``,
    and are less than ``end``.
    """

    def __init__(
        self, connection: PooledConnection, scope: HistoryScope, size: int, first: int, end: int
    ) -> None:
        self._connection = connection
        self.scope = scope
        self.size = size
        self.first = first
        self.end = end

    async def places(self) -> AsyncIterator[list[LogPlace]]:
        """Where the events are, in batches that rise."""
        if self.scope.kind in {"tenant", "project"}:
            async for walked in self._walk():
                places = await self._of_project(walked)
                if places:
                    yield places
            return
        after = self.first
        while positions := await self._listed(after):
            if places := await self.numbered(positions):
                yield places
            after = positions[-1] + 1

    async def numbered(self, positions: Sequence[int]) -> list[LogPlace]:
        """Where events are that have these positions, and a number that a checkpoint covers."""
        rows = await self._connection.fetch(_NUMBERS, self.scope.tenant_id, positions)
        places = [LogPlace(row["number"], row["position"]) for row in rows]
        return [place for place in places if place.number < self.size]

    async def before(self) -> int | None:
        """The number of the tenant's last event before the time range; None where it is none."""
        row = await self._connection.fetchrow(_BEFORE, self.scope.tenant_id, self.first)
        if row is None:
            return None
        number: int = row["index"] * WIDTH + bisect_left(row["positions"], self.first) - 1
        return number

    async def place_of(self, number: int) -> LogPlace:
        """Where an entry of the log is."""
        index, place = divmod(number, WIDTH)
        positions = await logs.positions(self._connection, self.scope.tenant_id, index, place + 1)
        if positions is None:
            raise HistoryAlteredError(f"the log has no entry {number}")
        return LogPlace(number, positions[-1])

    async def events(self, places: Sequence[LogPlace]) -> AsyncIterator[list[Selected]]:
        """The events at these places, in batches. Raises :class:`HistoryAlteredError`."""
        waiting = list(places)
        while waiting:
            rows = await self._connection.fetch(
                _EVENTS, [place.position for place in waiting], self.scope.tenant_id
            )
            # None at all means that the first one is gone.
            found, waiting = waiting[: len(rows) or 1], waiting[len(rows) :]
            for place, row in zip_longest(found, rows):
                if row is None or row["position"] != place.position:
                    raise HistoryAlteredError(
                        f"the event at position {place.position} is in the log and no longer in "
                        "the store, or is another tenant's"
                    )
            yield [_selected(place, row) for place, row in zip(found, rows, strict=True)]

    async def _walk(self) -> AsyncIterator[list[LogPlace]]:
        """All places of the log, from the first position on."""
        index = await self._first_index()
        while index * WIDTH < self.size:
            last = index + BATCH_EVENTS // WIDTH - 1
            rows = await self._connection.fetch(_PLACES, self.scope.tenant_id, index, last)
            yield [
                LogPlace(row["number"], row["position"])
                for row in rows
                if row["number"] < self.size and self.first <= row["position"] < self.end
            ]
            if not rows or rows[-1]["position"] >= self.end:
                return
            index = last + 1

    async def _first_index(self) -> int:
        found: int | None = await self._connection.fetchval(
            "SELECT index FROM log_bundle WHERE tenant_id = $1 AND first_position <= $2 "
            "ORDER BY first_position DESC LIMIT 1",
            self.scope.tenant_id,
            self.first,
        )
        return found or 0

    async def _of_project(self, places: list[LogPlace]) -> list[LogPlace]:
        if self.scope.kind == "tenant":
            return places
        positions = [place.position for place in places]
        rows = await self._connection.fetch(
            _OF_PROJECT, positions, self.scope.tenant_id, self.scope.id
        )
        wanted = {row["position"] for row in rows}
        return [place for place in places if place.position in wanted]

    async def _listed(self, after: int) -> list[int]:
        query = _OF_SUBJECT if self.scope.kind in SUBJECTS else _OF_STREAM
        rows = await self._connection.fetch(
            query, self.scope.id, self.scope.tenant_id, after, self.end, BATCH_EVENTS
        )
        return [row["position"] for row in rows]


async def select(
    connection: PooledConnection, scope: HistoryScope, size: int, last: int
) -> LogSelection:
    """The events of a scope up to the entry ``size - 1``, which is at position ``last``."""
    first, end = 1, last + 1
    if scope.since is not None:
        first = min(await moments.last_before(connection, scope.since), last) + 1
    if scope.until is not None:
        end = min(await moments.last_before(connection, scope.until), last) + 1
    return LogSelection(connection, scope, size, first, end)


async def exists(connection: PooledConnection, scope: HistoryScope) -> bool:
    """Whether there is such a notebook, execution, …, covered by a checkpoint or not.

    A project is there by its events alone, and found or not by exporting it.
    """
    if scope.id is None or scope.kind == "project":
        return True
    row = await connection.fetchrow(_FIRST_OF_STREAM, scope.id, scope.tenant_id)
    return row is not None and row["type"].startswith(f"{scope.kind}.")


def _selected(place: LogPlace, row: asyncpg.Record) -> Selected:
    content = Content(row["data"], row["salt"], row["metadata"], row["metadata_salt"])
    return Selected(
        place,
        recorded(row).entry(place.number),
        content,
        row["stream_id"],
        row["subject_id"],
        row["project_id"],
        row["version"],
    )
