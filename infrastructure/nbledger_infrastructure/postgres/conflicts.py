"""Transactions that PostgreSQL ends because of another one: the same again is likely to succeed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg
import structlog

log = structlog.get_logger(__name__)

CONFLICTS: Final[tuple[type[Exception], ...]] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
"""What asyncpg raises where a transaction was ended in favour of another one."""

_MOST_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.05

T = TypeVar("T")


async def retried(work: Callable[[], Awaitable[T]]) -> T:
    """Do ``work``, a whole transaction; again, a few times, where it conflicts with another one.

    Raises the last of :data:`CONFLICTS` where there are too many, and whatever ``work`` raises.
    """
    for tries in range(1, _MOST_TRIES):
        try:
            return await work()
        except CONFLICTS as error:
            log.debug("transaction tried again", error=repr(error), tries=tries)
        # Two that met once do not meet again.
        await asyncio.sleep(random.uniform(0, tries * _PAUSE_SECONDS))  # noqa: S311 (no secret)
    return await work()
