"""Leases: who runs an execution, and when the lease expires unless it is renewed.

Expiry is the database's time, and only the database says that a lease is lost. What a worker that
was taken over still records is refused by its epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import Execution, Resources
from nbledger_infrastructure.postgres.database import Connection, Pool, acquire


class Lease(msgspec.Struct, frozen=True):
    """The right of one attempt to run an execution."""

    execution_id: UUID
    epoch: int


class Expired(msgspec.Struct, frozen=True):
    """A lease whose worker could have renewed it, and has not."""

    execution_id: UUID
    epoch: int
    worker_id: str


async def take(pool: Pool, lease: Lease, worker_id: str, *, seconds: float) -> bool:
    """Write the lease of a claim just made; False when a later attempt has one already.

    May be called again where it is not known whether an earlier call has come through.
    """
    async with acquire(pool) as connection:
        taken = await connection.fetchval(
            """
            INSERT INTO execution_lease (execution_id, epoch, worker_id, expires_at)
            VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
            ON CONFLICT (execution_id) DO UPDATE
            SET epoch = excluded.epoch, worker_id = excluded.worker_id,
                expires_at = excluded.expires_at, usage = NULL, used_at = NULL
            WHERE (execution_lease.epoch, execution_lease.worker_id)
                  = (excluded.epoch, excluded.worker_id)
               OR execution_lease.epoch < excluded.epoch
            RETURNING true
            """,
            lease.execution_id,
            lease.epoch,
            worker_id,
            seconds,
        )
    return taken is True


async def renew(
    connection: Connection,
    worker_id: str,
    leases: Sequence[Lease],
    *,
    seconds: float,
    usages: Mapping[UUID, Resources] | None = None,
) -> dict[UUID, bool]:
    """Renew what is still held: execution ids, each with whether its cancel is asked for.

    So is a lease that has run out, as long as nobody has recorded the loss of its attempt.
    ``usages`` is what the executions use, where there is news of it.
    """
    told = usages or {}
    rows = await connection.fetch(
        """
        UPDATE execution_lease AS l
        SET expires_at = clock_timestamp() + make_interval(secs => $4),
            usage = coalesce(mine.usage::json, l.usage),
            used_at = CASE WHEN mine.usage IS NULL THEN l.used_at ELSE clock_timestamp() END
        FROM unnest($2::uuid[], $3::integer[], $6::text[]) AS mine (execution_id, epoch, usage)
        WHERE l.execution_id = mine.execution_id AND l.epoch = mine.epoch
          AND l.worker_id = $1
        RETURNING l.execution_id, EXISTS (
            SELECT FROM event AS e WHERE e.stream_id = l.execution_id AND e.type = ANY($5)
        ) AS cancel_requested
        """,
        worker_id,
        [lease.execution_id for lease in leases],
        [lease.epoch for lease in leases],
        seconds,
        EVENT_TYPES.stored_names(Execution.CancelRequested.TYPE),
        [
            msgspec.json.encode(told[lease.execution_id]).decode()
            if lease.execution_id in told
            else None
            for lease in leases
        ],
    )
    return {row["execution_id"]: row["cancel_requested"] for row in rows}


async def release(pool: Pool, lease: Lease) -> None:
    """Remove the lease of an attempt that is over."""
    async with acquire(pool) as connection:
        await connection.execute(
            "DELETE FROM execution_lease WHERE execution_id = $1 AND epoch = $2",
            lease.execution_id,
            lease.epoch,
        )
