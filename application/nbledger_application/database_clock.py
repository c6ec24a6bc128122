"""The clock that all processes share: that of the database."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from nbledger_infrastructure.postgres.database import PooledConnection

Clock = Callable[[PooledConnection], Awaitable[datetime]]
"""Tells the time; tests set it."""


async def database_time(connection: PooledConnection) -> datetime:
    """The time by the clock of the database."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now
