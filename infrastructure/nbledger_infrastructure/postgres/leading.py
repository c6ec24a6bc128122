"""Taking the lead: of several processes one at a time does a piece of work, the others stand by.

A session-level advisory lock of PostgreSQL decides: it ends with its connection, however the
process that held it came to its end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.postgres.checkpoints import CheckpointMovedError
from nbledger_infrastructure.postgres.conflicts import CONFLICTS
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    PooledConnection,
    acquire,
)

log = structlog.get_logger(__name__)

STANDBY_SECONDS: Final = 1.0
"""How often a process that stands by looks whether it is needed."""

SILENT_SECONDS: Final = 6
"""A leader that is stopped, or cut off, loses the lead after this time."""

Holds = Callable[[], Awaitable[None]]
"""Raises where this process is no longer the leader."""


class Ticking(Protocol):
    """Work that is done step by step; each step may be repeated."""

    async def tick(self) -> float | None:
        """Bring everything up to date; returns the seconds until there is something to do.

        None where only an event can bring that about.
        """
        ...


INTERRUPTIONS: Final[tuple[type[Exception], ...]] = (
    DatabaseUnavailableError,
    CheckpointMovedError,
    *UNAVAILABLE,
    *CONFLICTS,
)
"""What ends a leader's work for the moment, whatever it leads; it is taken up again."""


class Leader:
    """Leads ``work`` while this process holds ``lock``, and stands by while another one does.

    ``name`` is told in logs. ``on_ready`` is called once, at work or standing by. ``interruptions``
    are errors that are expected besides :data:`INTERRUPTIONS`: they are logged in a line, others
    with their traceback. After either, the work is taken up again after a growing pause.
    """

    def __init__(
        self,
        name: str,
        lock: int,
        stop: asyncio.Event,
        on_ready: Callable[[], None],
        *,
        interruptions: tuple[type[Exception], ...] = (),
    ) -> None:
        self.stop = stop
        self._name = name
        self._lock = lock
        self._on_ready = on_ready
        self._ready = False
        self._interruptions: tuple[type[Exception], ...] = (*INTERRUPTIONS, *interruptions)
        self._backoff = Backoff(0.1, 5.0)

    async def lead(self, pool: Pool, work: Callable[[PooledConnection], Awaitable[None]]) -> None:
        """Until told to stop, call ``work`` with the connection that holds the lock, or stand by.

        ``work`` goes on until told to stop. It calls :meth:`at_work` when it has found its place,
        and :meth:`succeeded` after each step.
        """
        while not self.stop.is_set():
            try:
                async with acquire(pool) as connection:
                    if await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._lock):
                        await work(connection)
                    else:
                        self.at_work()
                await self.pause(STANDBY_SECONDS)
            except self._interruptions as error:
                log.warning(
                    "interrupted",
                    name=self._name,
                    error=repr(error),
                    failures=self._backoff.failures + 1,
                )
                await self.pause(self._backoff.fail())
            except Exception:
                log.exception(
                    "stopped by a fault", name=self._name, failures=self._backoff.failures + 1
                )
                await self.pause(self._backoff.fail())

    async def tick_until_told(
        self,
        connection: PooledConnection,
        start: Callable[[Holds], Ticking],
        *,
        most_seconds: float,
    ) -> None:
        """Tick until told to stop, at least every ``most_seconds``.

        ``connection`` holds the lock, which ends with its session, and that after
        :data:`SILENT_SECONDS` of silence. ``start`` makes the work; it is given what raises once
        the session is over, to be asked before each part of a step that takes long.
        """
        await connection.execute(f"SET idle_session_timeout = '{SILENT_SECONDS}s'")

        async def holds() -> None:
            await connection.execute("SELECT")

        ticking = start(holds)
        while not self.stop.is_set():
            # Work at rest has no reason to ask, and its session may not fall silent.
            await holds()
            due = await ticking.tick()
            self.succeeded()
            await self.pause(most_seconds if due is None else min(max(due, 0.0), most_seconds))

    def at_work(self) -> None:
        """Report readiness, once."""
        if not self._ready:
            self._ready = True
            self._on_ready()

    def succeeded(self) -> None:
        """Note that the work goes on: after the next failure the first pause is short again."""
        self.at_work()
        self._backoff.reset()

    async def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()
