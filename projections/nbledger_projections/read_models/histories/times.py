"""Which positions a time lies between: times of recording never fall as positions rise."""

from datetime import datetime
from typing import Final

from nbledger_infrastructure.postgres.database import PooledConnection

_HEAD: Final = "SELECT coalesce(max(position), 0) FROM event"
_RECORDED: Final = "SELECT recorded_at FROM event WHERE position = $1"


async def head(connection: PooledConnection) -> int:
    """The position of the last event of all, 0 where there is none."""
    found: int = await connection.fetchval(_HEAD)
    return found


async def last_before(connection: PooledConnection, moment: datetime) -> int:
    """The position of the last event that was recorded before ``moment``, 0 where none was.

    Positions have no gaps, so it takes as many look-ups by primary key as the number of events has
    binary digits.
    """
    low, high = 0, await head(connection)
    while low < high:
        middle = (low + high + 1) // 2
        recorded: datetime = await connection.fetchval(_RECORDED, middle)
        low, high = (middle, high) if recorded < moment else (low, middle - 1)
    return low
