"""Work on many things side by side, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def side_by_side(
    things: Iterable[T], work: Callable[[T], Awaitable[None]], *, most: int
) -> None:
    """Do ``work`` for each thing, ``most`` of them at a time, begun in order.

    After an error nothing more is begun; the first one is raised once what is under way has ended.
    """
    waiting = iter(things)
    failed: list[Exception] = []

    async def worker() -> None:
        for thing in waiting:
            try:
                await work(thing)
            except Exception as error:  # noqa: BLE001 (raised below)
                failed.append(error)
            if failed:
                return

    async with asyncio.TaskGroup() as workers:
        for _ in range(most):
            workers.create_task(worker())
    if failed:
        raise failed[0]
