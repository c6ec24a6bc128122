"""Whether the database answers at all: asked every second, so that nobody waits for it in vain.

A server that is stopped, or behind a network that swallows packets, refuses nothing: each
statement would wait for its own timeout. The pulse finds that out once for a whole pool, ends the
statements under way, and lets no new ones begin until the server answers again. Slow statements
on a server that answers are left alone. Errors and refused connections are left to the callers,
who meet them at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg
import structlog

if TYPE_CHECKING:
    from nbledger_infrastructure.postgres.database import Connection, Pool

log = structlog.get_logger(__name__)

T = TypeVar("T")

EVERY_SECONDS: Final = 1.0
"""Pause between two questions."""
SLICES: Final = 4
SLICE_SECONDS: Final = 0.5
"""The server is away when it has not answered within so many slices of time. An event loop that
was held up counts one slice, however long it was: its own stall is not the server's."""

# By the id of the pool, which takes neither attributes nor weak references.
_pulses: dict[int, Pulse] = {}


class NoPulseError(Exception):
    """The database does not answer."""


class Pulse:
    """Watches the database of one pool; `away` while it does not answer."""

    def __init__(self, pool: Pool, dsn: str, *, application_name: str) -> None:
        self.away = False
        self._pool = pool
        self._dsn = dsn
        self._application_name = application_name
        self._scopes: set[asyncio.Timeout] = set()
        self._listeners: list[Callable[[], None]] = []
        self._told = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask, and to guard the pool."""
        _pulses[id(self._pool)] = self
        self._task = asyncio.create_task(self._run(), name="database pulse")

    async def close(self) -> None:
        """Ask no more; the pool is as without a pulse."""
        _pulses.pop(id(self._pool), None)
        self.away = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def on_away(self, listener: Callable[[], None]) -> None:
        """Have `listener` called each time the database stops answering or cannot be reached."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """End the block with :class:`NoPulseError` when the database is, or goes, away."""
        if self.away:
            raise NoPulseError("the database does not answer")
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                try:
                    yield
                finally:
                    self._scopes.discard(scope)
        except TimeoutError as error:
            if scope.expired():
                raise NoPulseError("the database does not answer") from error
            raise

    async def _run(self) -> None:
        while True:
            connection: Connection | None = None
            try:
                connection = await _in_time(
                    asyncpg.connect(
                        self._dsn,
                        server_settings={"application_name": self._application_name},
                    )
                )
                while True:
                    await _in_time(connection.execute("SELECT 1"))
                    self._answers()
                    await asyncio.sleep(EVERY_SECONDS)
            except TimeoutError:
                self._is_silent()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # It says something, or nobody is there: whoever asks finds that out at once.
                self.away = False
                if connection is None:
                    self._tell()
                await asyncio.sleep(SLICE_SECONDS)
            finally:
                if connection is not None:
                    connection.terminate()

    def _answers(self) -> None:
        self.away = False
        if self._told:
            self._told = False
            log.info("database answers again")

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            log.warning("database does not answer", waiting=len(self._scopes))
            for listener in self._listeners:
                listener()

    def _is_silent(self) -> None:
        if self.away:
            return
        self.away = True
        now = asyncio.get_running_loop().time()
        for scope in list(self._scopes):
            with suppress(RuntimeError):  # ended this very moment
                scope.reschedule(now)
        self._tell()


@asynccontextmanager
async def guarded(pool: Pool) -> AsyncIterator[None]:
    """Guard the block by the pulse of the pool, where it has one.

    Raises :class:`NoPulseError` when the database does not answer, at once or within seconds.
    """
    pulse = _pulses.get(id(pool))
    if pulse is None:
        yield
        return
    async with pulse.guard():
        yield


async def _in_time(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    try:
        for _ in range(SLICES):
            await asyncio.wait({task}, timeout=SLICE_SECONDS)
            if task.done():
                return task.result()
        raise TimeoutError
    finally:
        task.cancel()
