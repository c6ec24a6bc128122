"""Putting tables that were built anew into the place of those in use."""

import asyncio
from typing import Final

import asyncpg

from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.rebuilding.beside import BATCH_TIMEOUT, Beside
from nbledger_projections.rebuilding.progress import Reporter

LOCK_TIMEOUT: Final = "500ms"
"""How long the exchange waits for readers, who wait behind it, before it tries again later. Less
than PostgreSQL's deadlock_timeout: should there be one, it is the exchange that gives way."""
ATTEMPTS: Final = 60
PAUSE: Final = 0.5
"""Seconds between those attempts."""


class TablesBusyError(Exception):
    """The tables in use could not be locked for a moment, as somebody kept reading them."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: a transaction keeps the tables in use, so the new ones could not take their "
            "place; end it, and rebuild again"
        )


async def take_place(store: EventStore, built: Beside, reporter: Reporter) -> None:
    """Exchange the tables, at once or as soon as nobody reads for long.

    Raises :class:`TablesBusyError`.
    """
    for _ in range(ATTEMPTS):
        await built.follow(store)
        try:
            async with asyncio.timeout(BATCH_TIMEOUT):
                built.position = await _exchange(built)
                return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            # Rolled back: the rows in memory are ahead of the tables.
            built.projection.reset()
        await reporter.at(built.name, "waiting")
        await asyncio.sleep(PAUSE)
    raise TablesBusyError(built.name)


async def _exchange(built: Beside) -> int:
    """Fold what has come meanwhile and exchange the tables, while no projector can move.

    Whoever reads waits for the exchange, and then takes the moment at which it reads: see
    ``machinery.one_moment``.
    """
    connection, live = built.connection, built.live
    await connection.execute("SET synchronous_commit = on")
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await checkpoints.lock(connection, built.name)
        position = await built.fold_here()
        # All of them before any is dropped, in the order in which queries come to them.
        names = ", ".join(f'"{live}".{table}' for table in built.projection.tables)
        await connection.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
        for table in built.projection.tables:
            await connection.execute(f'DROP TABLE "{live}".{table}')
            await connection.execute(f'ALTER TABLE {built.schema}.{table} SET SCHEMA "{live}"')
        await checkpoints.move(connection, built.name, position, new_generation=True)
        await connection.execute(f"DROP SCHEMA {built.schema}")
    return position
