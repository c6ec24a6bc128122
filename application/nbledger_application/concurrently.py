"""Several pieces of work at once."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any


async def all_of(work: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results of all, in order; raises the first failure once all are over."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
