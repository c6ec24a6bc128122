"""Runs that wait, by the ten thousands, written as the store and the projector write them."""

from __future__ import annotations

from nbledger_domain.execution import Execution
from nbledger_infrastructure.database import Pool, acquire


async def fill(pool: Pool, count: int, *, kernel_type: str = "python3", running: int = 0) -> None:
    """Write so many waiting runs, after some older ones that a worker has claimed.

    Only what looking for them reads: the data of their events is empty, and no chain verifies.
    """
    for prefix, number, phase, kind in (
        ("c", running, "Executing", Execution.Claimed.TYPE),
        ("a", count, "Queued", Execution.Requested.TYPE),
    ):
        async with acquire(pool) as connection, connection.transaction():
            await connection.execute(
                """
                WITH run AS (
                    SELECT i, ($1 || lpad(to_hex(i), 31, '0'))::uuid AS id,
                        (SELECT coalesce(max(position), 0) FROM event) + i AS position
                    FROM generate_series(1, $2::integer) AS i
                )
                INSERT INTO event
                SELECT position, id, 1, id, $3, id, id, id, '{}', '{}',
                    clock_timestamp(), clock_timestamp() - interval '1 hour', '', ''
                FROM run
                """,
                prefix,
                number,
                kind,
            )
            await connection.execute(
                """
                INSERT INTO execution_status
                SELECT stream_id, subject_id, tenant_id, project_id, position, 1, position,
                    recorded_at, recorded_at, recorded_at, false, $1, $2, 0, '{}', '{}',
                    (ARRAY['Low', 'Normal', 'High'])[1 + position % 3]
                FROM event WHERE type = $3
                """,
                phase,
                kernel_type,
                kind,
            )
