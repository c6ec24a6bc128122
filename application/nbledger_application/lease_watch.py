"""Which leases have run out though their workers could have renewed them.

Expiry is the database's time, and goes on while nobody can reach the database. So every sweeper
leaves a sign of life in it, more often than leases are renewed. A gap in the signs, a restart of
the server or a jump of its clock is a time in which perhaps nobody could renew: from its end on
every lease is good for a whole lease's length. A sweeper that was stopped itself leaves a gap as
well; that costs one lease's length, and nobody a run.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from nbledger_application.leases import Expired
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    acquire,
)

log = structlog.get_logger(__name__)

_SIGNS_PER_LEASE: Final = 8
_GAPS_PER_LEASE: Final = 3
"""A gap of a third of a lease is an outage. Leases are renewed at the latest when half of one is
left, so that none runs out within a shorter one."""

# The clock is read once, so that a statement that is held up half-way judges one moment.
_SIGN: Final = """
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now, pg_postmaster_start_time() AS started
)
INSERT INTO lease_watch AS w (seen_at, server_started_at, grace_until)
SELECT now, started, now FROM moment
ON CONFLICT (one) DO UPDATE
SET seen_at = excluded.seen_at,
    server_started_at = excluded.server_started_at,
    grace_until = CASE
        WHEN excluded.seen_at - w.seen_at > make_interval(secs => $1)
            OR excluded.seen_at < w.seen_at - interval '1 second'
            OR excluded.server_started_at <> w.server_started_at
        THEN excluded.seen_at + make_interval(secs => $2)
        ELSE w.grace_until
    END
RETURNING grace_until = seen_at + make_interval(secs => $2)
"""

# Of a clock that was set back: such a lease would outlive its worker by as much.
_SHORTEN: Final = """
UPDATE execution_lease SET expires_at = clock_timestamp() + make_interval(secs => $1)
WHERE expires_at > clock_timestamp() + make_interval(secs => $1)
"""

_CALM: Final = """
m.now >= w.grace_until AND m.now - w.seen_at <= make_interval(secs => $1)
AND w.server_started_at = pg_postmaster_start_time()
"""

_EXPIRED: Final = f"""
WITH m AS MATERIALIZED (SELECT clock_timestamp() AS now)
SELECT l.execution_id, l.epoch, l.worker_id
FROM m CROSS JOIN lease_watch AS w JOIN execution_lease AS l ON l.expires_at < m.now
WHERE {_CALM} ORDER BY l.expires_at LIMIT 1000
"""  # noqa: S608 - a constant

_IS_CALM: Final = f"""
WITH m AS MATERIALIZED (SELECT clock_timestamp() AS now)
SELECT EXISTS (SELECT FROM m CROSS JOIN lease_watch AS w WHERE {_CALM})
"""  # noqa: S608 - a constant


class LeaseWatch:
    """Leaves signs of life, and judges leases by those that all sweepers have left."""

    def __init__(self, pool: Pool, *, lease_seconds: float, every_seconds: float) -> None:
        self._pool = pool
        self._lease_seconds = lease_seconds
        self._gap_seconds = lease_seconds / _GAPS_PER_LEASE
        self._every_seconds = min(every_seconds, lease_seconds / _SIGNS_PER_LEASE)
        self._signed = False

    async def run(self) -> None:
        """Leave signs of life until cancelled, whether the database can be reached or not."""
        while True:
            try:
                async with asyncio.timeout(self._gap_seconds):
                    await self.sign()
            except (DatabaseUnavailableError, *UNAVAILABLE) as error:
                log.debug("sign of life not left", error=repr(error))
            except Exception:
                # Whatever it is, such as a deadlock: without signs no lost worker is recovered.
                log.exception("sign of life not left")
            await asyncio.sleep(self._every_seconds)

    async def sign(self) -> None:
        """Leave one; after an outage it gives every lease its time."""
        async with acquire(self._pool) as connection:
            if await connection.fetchval(_SIGN, self._gap_seconds, self._lease_seconds):
                await connection.execute(_SHORTEN, self._lease_seconds)
                if self._signed:
                    log.warning(
                        "the database was out of reach, leases are good for a while",
                        seconds=self._lease_seconds,
                    )
                else:
                    # The first sign after the service has been stopped, as a rule.
                    log.info(
                        "nobody has watched leases, they are good for a while",
                        seconds=self._lease_seconds,
                    )
        self._signed = True

    async def expired(self) -> list[Expired]:
        """The leases whose workers could have renewed them, and have not."""
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_EXPIRED, self._gap_seconds)
        return [Expired(*row) for row in rows]

    async def is_calm(self) -> bool:
        """Whether the database could be reached for at least a lease's length until now."""
        async with acquire(self._pool) as connection:
            calm: bool = await connection.fetchval(_IS_CALM, self._gap_seconds)
        return calm
