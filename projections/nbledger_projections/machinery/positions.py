"""Waiting until a projection has come to a position, without asking again and again."""

import asyncio
from types import TracebackType
from typing import Self

import structlog

from nbledger_infrastructure.postgres.checkpoints import CHANNEL, checkpoint
from nbledger_infrastructure.postgres.database import (
    CONNECT_TIMEOUT,
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    PooledConnection,
    acquire,
)

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 1.0
"""How often checkpoints are read besides: a notification is a hint and may be lost."""

_READ = "SELECT name, position FROM projection_checkpoint"


class PositionWatch:
    """Follows the checkpoints over one connection of the pool, for any number of waiters.

    The connection is taken when somebody waits for the first time, and kept until ``close``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._positions: dict[str, int] = {}
        self._waiters: dict[str, set[tuple[int, asyncio.Future[None]]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def reached(self, name: str, position: int, timeout: float) -> bool:
        """Wait until projection ``name`` has come to ``position``.

        Returns whether it has within ``timeout`` seconds; with 0, or after :meth:`end`, whether
        it has by now.
        Raises ``DatabaseUnavailableError`` when that cannot be told now.
        """
        if self._positions.get(name, -1) >= position:
            return True
        if await checkpoint(self._pool, name) >= position:
            return True
        if timeout <= 0 or self._ended:
            return False
        self._start()
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            await self._woken(name, position, deadline)
            if self._positions.get(name, -1) >= position:
                return True
            if self._is_over(deadline):
                return False
            # Woken otherwise: the database may be away, which reading tells.
            if await checkpoint(self._pool, name) >= position:
                return True

    def _is_over(self, deadline: float) -> bool:
        return self._ended or asyncio.get_running_loop().time() >= deadline

    async def _woken(self, name: str, position: int, deadline: float) -> None:
        waiter = (position, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(name, set()).add(waiter)
        # What was notified between the read before and this line is not to be missed.
        self._wake(name)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter[1]
        except TimeoutError:
            pass
        finally:
            self._waiters[name].discard(waiter)

    def end(self) -> None:
        """Let nobody wait any longer."""
        self._ended = True
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits read once: nothing may come to tell of what they wait for."""
        for waiters in self._waiters.values():
            for _, future in waiters:
                if not future.done():
                    future.set_result(None)

    async def close(self) -> None:
        """Stop following; whoever still waits does so until its time is up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="position watch")

    async def _follow(self) -> None:
        while True:
            try:
                async with acquire(self._pool) as connection:
                    await self._listen(connection)
            except (DatabaseUnavailableError, *UNAVAILABLE) as error:
                log.warning("position watch interrupted", error=type(error).__name__)
                await asyncio.sleep(REFRESH_SECONDS)

    async def _listen(self, connection: PooledConnection) -> None:
        await connection.add_listener(CHANNEL, self._on_notify)
        try:
            while True:
                if any(self._waiters.values()):
                    for name, position in await connection.fetch(_READ):
                        self._advance(name, position)
                elif connection.is_closed():
                    return
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            if not connection.is_closed():
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await connection.remove_listener(CHANNEL, self._on_notify)

    def _on_notify(self, _: object, __: int, ___: str, payload: object) -> None:
        name, _, position = str(payload).rpartition(":")
        self._advance(name, int(position))

    def _advance(self, name: str, position: int) -> None:
        if position > self._positions.get(name, -1):
            self._positions[name] = position
            self._wake(name)

    def _wake(self, name: str) -> None:
        known = self._positions.get(name, -1)
        for position, future in self._waiters.get(name, ()):
            if known >= position and not future.done():
                future.set_result(None)
