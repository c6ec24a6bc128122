"""Runs that wait, by the ten thousands, written as the store writes them."""

from __future__ import annotations

from uuid import UUID

from nbledger_domain.execution import Execution
from nbledger_infrastructure.postgres.database import Pool, acquire


async def fill(
    pool: Pool,
    count: int,
    *,
    kernel_type: str = "python3",
    running: int = 0,
    notebooks: int = 1_000,
    prefix: str = "a",
) -> None:
    """Write so many waiting runs, after some older ones that a worker has claimed.

    They are of so many notebooks, each of a tenant of its own, and their ids begin with `prefix`.
    Only what looking for them reads: the data of their events is empty, and no chain verifies.
    """
    for begins, number, state, kind in (
        ("c", running, "claimed", Execution.Claimed.TYPE),
        (prefix, count, "waiting", Execution.Requested.TYPE),
    ):
        if number == 0:
            continue
        async with acquire(pool) as connection, connection.transaction():
            await connection.execute(
                """
                WITH run AS (
                    SELECT i, ($1 || lpad(to_hex(i), 31, '0'))::uuid AS id,
                        ($1 || lpad(to_hex(i % $4), 31, '0'))::uuid AS whose,
                        (SELECT coalesce(max(position), 0) FROM event) + i AS position
                    FROM generate_series(1, $2::integer) AS i
                )
                INSERT INTO event
                SELECT position, id, 1, id, $3, whose, whose, whose, '{}', '{}',
                    clock_timestamp(), clock_timestamp() - interval '1 hour', '', '', 1
                FROM run
                """,
                begins,
                number,
                kind,
                notebooks,
            )
            await connection.execute(
                """
                INSERT INTO execution_queue (
                    execution_id, notebook_id, tenant_id, project_id, kernel_type, priority,
                    requested_at, state, position, since
                )
                SELECT stream_id, subject_id, tenant_id, project_id, $2,
                    (ARRAY['Low', 'Normal', 'High'])[1 + position % 3], recorded_at, $1, position,
                    recorded_at
                FROM event WHERE type = $3 AND stream_id >= $4 AND stream_id <= $5
                """,
                state,
                kernel_type,
                kind,
                UUID(begins + "0" * 31),
                UUID(begins + "f" * 31),
            )
