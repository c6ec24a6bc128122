"""Telling any number of waiters that their streams have moved, over one connection."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg
import structlog

from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError, acquire
from nbledger_infrastructure.postgres.event_store import moments
from nbledger_infrastructure.postgres.event_store.tail import ChangeTail

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from uuid import UUID

    from nbledger_infrastructure.postgres.database import Pool

log = structlog.get_logger(__name__)

IDLE_SECONDS = 10.0
"""For how long the store is followed on after the last follower has gone."""

RETRY_SECONDS = 1.0


class Follower:
    """Waits for one stream, project or tenant; made by `StreamWatch.follow`."""

    __slots__ = ("_types", "_woken")

    def __init__(self, types: Collection[str] | None) -> None:
        self._types = types
        self._woken = asyncio.Event()

    async def moved(self, timeout: float) -> bool:
        """Wait until what it follows may have moved; whether it has within `timeout` seconds.

        True can come for nothing: read the stream, then wait again. What is recorded after
        such a read began is never missed.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def wake(self, event_type: str | None = None) -> None:
        """Let it look; with a type only if it waits for such events."""
        if event_type is None or self._types is None or event_type in self._types:
            self._woken.set()


class StreamWatch:
    """Follows the store for all of a process's followers.

    Each waits for one stream, or for all streams of a project or tenant.

    It holds a connection of the pool while there are followers, and for moments after.
    `reads` is for reading after one was woken: so many followers at once, while the others wait
    in line and leave connections to everybody else.
    """

    def __init__(self, pool: Pool) -> None:
        self.ended = False
        self.reads = asyncio.Semaphore(max(1, pool.get_max_size() // 2))
        self._pool = pool
        self._followers: dict[UUID, set[Follower]] = {}
        self._task: asyncio.Task[None] | None = None
        self._rest: asyncio.TimerHandle | None = None

    @contextmanager
    def follow(self, followed: UUID, types: Collection[str] | None = None) -> Iterator[Follower]:
        """Follow a stream, project or tenant for the block.

        With `types`, only events of these wake the follower.

        Begin to follow before reading the stream for the first time.
        """
        follower = Follower(types)
        self._followers.setdefault(followed, set()).add(follower)
        self._start()
        try:
            yield follower
        finally:
            others = self._followers[followed]
            others.discard(follower)
            if not others:
                del self._followers[followed]
            if not self._followers and not self.ended:
                loop = asyncio.get_running_loop()
                self._rest = loop.call_later(IDLE_SECONDS, self._stop)

    def end(self) -> None:
        """Wake everybody for the last time: whoever sees `ended` is to wait no more."""
        self.ended = True
        self._wake_all()

    def wake(self) -> None:
        """Let every follower read: nothing may come to tell them of what they wait for."""
        self._wake_all()

    async def close(self) -> None:
        """End, and give the connection back."""
        self.end()
        task = self._task
        self._stop()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def _start(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self.ended:
            self._wake_all()
        elif self._task is None or self._task.done():
            # It works for everybody: what is bound to the log of one's request is not for it.
            self._task = asyncio.create_task(
                self._run(), name="stream watch", context=contextvars.Context()
            )

    def _stop(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self._tell()
            except (DatabaseUnavailableError, asyncpg.PostgresError, *UNAVAILABLE) as error:
                log.warning("stream watch interrupted", error=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    async def _tell(self) -> None:
        async with acquire(self._pool) as connection:
            head = await moments.head(connection)
        async with ChangeTail(self._pool, head) as tail:
            # What was recorded up to the head, nobody else will tell of.
            self._wake_all()
            while True:
                for change in await tail.next_batch():
                    for moved in (change.stream_id, change.project_id, change.tenant_id):
                        for follower in self._followers.get(moved, ()):
                            follower.wake(change.type)

    def _wake_all(self) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.wake()
