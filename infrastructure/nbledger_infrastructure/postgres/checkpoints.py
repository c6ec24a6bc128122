"""How far a consumer of the events has come, kept in the database."""

from typing import NamedTuple

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire

CHANNEL = "nbledger_projection"
"""Where ``name:position`` is notified when a checkpoint moves."""


class Checkpoint(NamedTuple):
    """``position`` of the last event handled; ``generation`` counts rebuilds."""

    position: int
    generation: int


class CheckpointMovedError(Exception):
    """Another process has moved this checkpoint: it does the same work."""


async def ensure(connection: PooledConnection, name: str, *, position: int = 0) -> Checkpoint:
    """The checkpoint of ``name``, made at ``position`` if it is new."""
    await connection.execute(
        "INSERT INTO projection_checkpoint (name, position) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        name,
        position,
    )
    row = await connection.fetchrow(
        "SELECT position, generation FROM projection_checkpoint WHERE name = $1", name
    )
    assert row is not None  # noqa: S101 (it has just been made)
    return Checkpoint(row["position"], row["generation"])


async def position(connection: PooledConnection, name: str) -> int:
    """How far ``name`` has come, 0 where it has never run."""
    found: int | None = await connection.fetchval(
        "SELECT position FROM projection_checkpoint WHERE name = $1", name
    )
    return found or 0


async def lock(connection: PooledConnection, name: str) -> Checkpoint:
    """The checkpoint of ``name``, held until the transaction ends."""
    row = await connection.fetchrow(
        "SELECT position, generation FROM projection_checkpoint WHERE name = $1 FOR UPDATE", name
    )
    assert row is not None  # noqa: S101 (whoever locks has ensured that it exists)
    return Checkpoint(row["position"], row["generation"])


async def lock_at(connection: PooledConnection, name: str, expected: Checkpoint) -> None:
    """Hold the checkpoint until the transaction ends, if it is where it is expected.

    Raises :class:`CheckpointMovedError`.
    """
    if await lock(connection, name) != expected:
        raise CheckpointMovedError(name)


async def move(
    connection: PooledConnection, name: str, position: int, *, new_generation: bool = False
) -> None:
    """Set the checkpoint and, when the transaction commits, say so."""
    await connection.execute(
        """
        WITH moved AS (
            UPDATE projection_checkpoint AS c
            SET position = $2, generation = generation + $3, updated_at = now.at,
                marks = CASE WHEN now.at > coalesce(c.marks_at[1] + '5 s', '-infinity')
                    THEN (array_prepend(c.position, c.marks))[1:14] ELSE c.marks END,
                marks_at = CASE WHEN now.at > coalesce(c.marks_at[1] + '5 s', '-infinity')
                    THEN (array_prepend(now.at, c.marks_at))[1:14] ELSE c.marks_at END
            FROM (SELECT clock_timestamp() AS at OFFSET 0) AS now
            WHERE name = $1
        )
        SELECT pg_notify($4, $5)
        """,
        name,
        position,
        int(new_generation),
        CHANNEL,
        f"{name}:{position}",
    )


async def checkpoint(pool: Pool, name: str) -> int:
    """The position that ``name`` has come to, 0 when it has never run."""
    async with acquire(pool) as connection:
        return await position(connection, name)
