"""Where in the store a moment of the past is: all events up to a position are what was known then.

Positions have no gaps, and neither they nor the recorded times ever fall, so a time is found among
the positions by halving. An append is whole: nobody ever saw a part of it, so that a moment within
one is the moment after it.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain import semver
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.notebook import Notebook
from nbledger_domain.past.errors import (
    LaterThanNowError,
    NotebookVersionNotFoundError,
)
from nbledger_domain.past.moments import AsOf, AtPosition, AtTime
from nbledger_infrastructure.postgres.database import PooledConnection

# What append_events holds while it records. It decides the recorded time first, so that an event
# may appear a moment after the time it is recorded at.
_AWAIT_APPENDS: Final = """
SELECT pg_advisory_xact_lock_shared(8242543731)
WHERE $1 > clock_timestamp() - interval '1 minute'
"""

_NOW: Final = "SELECT clock_timestamp()"

_HEAD: Final = "SELECT coalesce(max(position), 0) FROM event"

# The last event of the append that an event came with. The events of one follow each other.
_WHOLE: Final = """
WITH RECURSIVE append AS (
    SELECT position, stream_id, recorded_at, metadata::text AS metadata
    FROM event WHERE position = $1
    UNION ALL
    SELECT e.position, e.stream_id, e.recorded_at, e.metadata::text
    FROM append AS a JOIN event AS e ON e.position = a.position + 1 AND e.stream_id = a.stream_id
        AND e.recorded_at = a.recorded_at AND e.metadata::text IS NOT DISTINCT FROM a.metadata
)
SELECT position, recorded_at FROM append ORDER BY position DESC LIMIT 1
"""

# An event that somebody has taken out of the store counts as the next one.
_HALVING: Final = """
WITH RECURSIVE halving (low, high) AS (
    SELECT 0::bigint, coalesce(max(position), 0) FROM event
    UNION ALL
    SELECT
        CASE WHEN e.recorded_at {within} $1 THEN m.middle ELSE h.low END,
        CASE WHEN e.recorded_at {within} $1 THEN h.high ELSE m.middle - 1 END
    FROM halving AS h
    CROSS JOIN LATERAL (SELECT (h.low + h.high + 1) / 2) AS m (middle)
    CROSS JOIN LATERAL (
        SELECT recorded_at FROM event WHERE position >= m.middle ORDER BY position LIMIT 1
    ) AS e
    WHERE h.low < h.high
)
SELECT low FROM halving WHERE low = high
"""
_POSITION_AT: Final = _HALVING.format(within="<=")
_POSITION_BEFORE: Final = _HALVING.format(within="<")

_VERSION: Final = """
SELECT position FROM event
WHERE stream_id = $1 AND type = ANY($2) AND data ->> 'notebookVersion' = $3
"""

_NEWEST_VERSION: Final = """
SELECT data ->> 'notebookVersion' FROM event
WHERE stream_id = $1 AND type = ANY($2) AND data IS NOT NULL ORDER BY version DESC LIMIT 1
"""

# What makes a notebook is one append, and tells no version: that comes with a change.
_CREATION: Final = "SELECT position FROM event WHERE stream_id = $1 AND version = 1"

_BUMPS: Final = EVENT_TYPES.stored_names(Notebook.VersionBumped.TYPE)


class Moment(msgspec.Struct, frozen=True):
    """After the event at ``position``, at the time ``at``; ``position`` is 0 before the first."""

    position: int
    at: datetime


async def head(connection: PooledConnection) -> int:
    """The position of the last event of all, 0 where there is none."""
    found: int = await connection.fetchval(_HEAD)
    return found


async def last_before(connection: PooledConnection, at: datetime) -> int:
    """The position of the last event that was recorded before ``at``, 0 where none was."""
    found: int = await connection.fetchval(_POSITION_BEFORE, at)
    return found


async def settled(connection: PooledConnection, wanted: AsOf) -> None:
    """Wait for appends under way that may still be recorded at or before a time.

    Outside of any transaction: what is read in it begins after this.
    """
    if isinstance(wanted, AtTime):
        await connection.execute(_AWAIT_APPENDS, wanted.at)


async def find(connection: PooledConnection, wanted: AsOf, notebook_id: UUID | None) -> Moment:
    """The moment, of ``notebook_id`` where it is one of its versions.

    Raises :class:`LaterThanNowError` and :class:`NotebookVersionNotFoundError`.
    """
    if isinstance(wanted, AtPosition):
        return await _at_position(connection, wanted.position)
    if isinstance(wanted, AtTime):
        return await _at_time(connection, wanted.at)
    assert notebook_id is not None  # noqa: S101 (only notebooks are asked for by a version)
    return await _at_version(connection, notebook_id, wanted.version)


async def _at_position(connection: PooledConnection, position: int) -> Moment:
    row = await connection.fetchrow(_WHOLE, position)
    if row is None:
        last = await head(connection)
        raise LaterThanNowError(f"is beyond the last event, which is at position {last}")
    return Moment(row["position"], row["recorded_at"])


async def _at_time(connection: PooledConnection, at: datetime) -> Moment:
    now = await connection.fetchval(_NOW)
    # The millisecond that goes on is asked for as a whole.
    if at >= now + timedelta(milliseconds=1):
        raise LaterThanNowError(f"is later than now, which is {now:%Y-%m-%dT%H:%M:%S.%fZ}")
    at = min(at, now)
    return Moment(await connection.fetchval(_POSITION_AT, at), at)


async def _at_version(connection: PooledConnection, notebook_id: UUID, version: str) -> Moment:
    if version == semver.INITIAL:
        position = await connection.fetchval(_CREATION, notebook_id)
    else:
        position = await connection.fetchval(_VERSION, notebook_id, _BUMPS, version)
    if position is None:
        newest = await connection.fetchval(_NEWEST_VERSION, notebook_id, _BUMPS)
        raise NotebookVersionNotFoundError(version, newest or semver.INITIAL)
    return await _at_position(connection, position)
