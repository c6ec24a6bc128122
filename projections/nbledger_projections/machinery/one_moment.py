"""Reading read models by several statements that see one moment."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire


@asynccontextmanager
async def one_moment(
    pool: Pool, tables: Sequence[str], *, settings: str = ""
) -> AsyncIterator[PooledConnection]:
    """A connection whose statements read ``tables`` as they are at one moment, and nothing else.

    ``settings`` are statements that set something for the transaction.

    The tables are locked before the moment is taken. A rebuild that exchanges them in between would
    otherwise show new tables as they were while they were being filled.
    """
    async with (
        acquire(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(f"{settings}; LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE")
        yield connection
