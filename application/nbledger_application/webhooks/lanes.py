"""How many attempts there are at a time, and that nobody takes the room of others.

Attempts at webhooks that work and at those that fail have a lane each. An attempt that takes long
gives its place in the first lane back and goes on beside it, where there is room for many: it only
waits. Of each of these rooms a project takes a quarter at most.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

PARK_SECONDS: Final = 0.5
"""An attempt that has taken so long waits for its receiver, and needs a connection and no more."""

PARKED: Final = 2
"""So many times the attempts at one moment may wait beside them."""

_SHARE: Final = 4


class Lanes:
    """Room for so many attempts: three quarters for webhooks that work, the rest for the others."""

    def __init__(self, concurrency: int) -> None:
        failing = max(concurrency // 4, 1)
        self._good = _Lane(concurrency - failing)
        self._failing = _Lane(failing)
        self._beside = _Beside(concurrency * PARKED)

    @asynccontextmanager
    async def place(self, project_id: UUID, *, failing: bool) -> AsyncIterator[None]:
        """A place for one attempt at a webhook of this project, once there is one."""
        if failing:
            leave = await self._failing.enter(project_id)
            try:
                yield
            finally:
                leave()
            return
        leave = await self._good.enter(project_id)

        def park() -> None:
            nonlocal leave
            if (out := self._beside.enter(project_id)) is not None:
                leave()
                leave = out

        timer = asyncio.get_running_loop().call_later(PARK_SECONDS, park)
        try:
            yield
        finally:
            timer.cancel()
            leave()


class _Lane:
    """Places that are waited for; a project that waits for its share holds up no other."""

    def __init__(self, places: int) -> None:
        self._all = asyncio.Semaphore(places)
        self._most = max(places // _SHARE, 1)
        # Each is kept by those who have a place or wait for one.
        self._shares: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    async def enter(self, project_id: UUID) -> Callable[[], None]:
        """Wait for a place; returns what gives it back."""
        share = self._shares.get(project_id)
        if share is None:
            share = self._shares[project_id] = asyncio.Semaphore(self._most)
        await share.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            share.release()
            raise

        def leave() -> None:
            self._all.release()
            share.release()

        return leave


class _Beside:
    """Places that nobody waits for."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._most = max(places // _SHARE, 1)
        self._taken: Counter[UUID] = Counter()

    def enter(self, project_id: UUID) -> Callable[[], None] | None:
        """Take a place if there is one; returns what gives it back."""
        if self._taken[project_id] >= self._most or self._taken.total() >= self._places:
            return None
        self._taken[project_id] += 1

        def leave() -> None:
            self._taken[project_id] -= 1
            if not self._taken[project_id]:
                del self._taken[project_id]

        return leave
