"""Keeps the leases of a worker renewed.

A worker that cannot reach the database goes on for as long as it may, as the database may be away
for everybody; one that could not renew in time, because it was stopped, renews late where nobody
has taken the run over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from nbledger_application.leases import Lease, renew
from nbledger_domain.execution import Resources
from nbledger_infrastructure.postgres.database import CONNECT_TIMEOUT, Connection

log = structlog.get_logger(__name__)

_STOP_SECONDS: Final = 10.0
_FROZEN_SECONDS: Final = 120.0
"""A worker whose event loop does nothing for so long loses its leases: it cannot be working."""


class _Hold(msgspec.Struct):
    lease: Lease
    until: float
    on_lost: Callable[[], None]
    on_cancel: Callable[[], None]
    usage: Resources | None = None
    """What is not told yet."""


class LeaseKeeper:
    """Renews all leases of a worker, in a thread with a connection of its own.

    So neither a busy event loop nor an exhausted pool costs a lease. What it finds is told on
    the worker's loop: ``on_lost`` when a lease was taken away, or could not be renewed for
    ``away_seconds``; ``on_cancel`` when the run was asked to stop.
    """

    def __init__(
        self,
        dsn: str,
        worker_id: str,
        *,
        lease_seconds: float,
        renew_seconds: float,
        away_seconds: float,
    ) -> None:
        self._dsn = dsn
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._renew_seconds = min(renew_seconds, lease_seconds / 2)
        self._away_seconds = max(away_seconds, lease_seconds)
        self._holds: dict[UUID, _Hold] = {}
        self._lock = threading.Lock()
        self._alive = time.monotonic()
        self._worker_loop: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._started = threading.Event()

    async def start(self) -> None:
        """Begin to renew; call it on the worker's loop."""
        self._worker_loop = asyncio.get_running_loop()
        self._alive = time.monotonic()
        self._thread.start()
        await asyncio.to_thread(self._started.wait)

    async def close(self) -> None:
        """Renew no more; what is still held runs out."""
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(main.cancel)
        await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    def hold(
        self,
        lease: Lease,
        *,
        taken_at: float,
        on_lost: Callable[[], None],
        on_cancel: Callable[[], None],
    ) -> None:
        """Keep a lease; ``taken_at`` is the monotonic time just before it was asked for."""
        until = taken_at + self._away_seconds
        with self._lock:
            self._holds[lease.execution_id] = _Hold(lease, until, on_lost, on_cancel)

    def drop(self, lease: Lease) -> None:
        """Renew this lease no more."""
        with self._lock:
            held = self._holds.get(lease.execution_id)
            if held is not None and held.lease == lease:
                del self._holds[lease.execution_id]

    def tell_usage(self, lease: Lease, usage: Resources) -> None:
        """Let the next renewal say what the execution uses."""
        with self._lock:
            held = self._holds.get(lease.execution_id)
            if held is not None and held.lease == lease:
                held.usage = usage

    # In the thread

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._renew_for_ever())

    async def _renew_for_ever(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._started.set()
        connection: Connection | None = None
        try:
            while True:
                pause = self._renew_seconds
                try:
                    if holds := self._to_renew():
                        # A renewal must be able to fail and be repeated within one lease.
                        async with asyncio.timeout(max(self._lease_seconds / 3, 0.1)):
                            if connection is None:
                                connection = await self._connect()
                            await self._renew(connection, holds)
                except Exception as error:  # noqa: BLE001
                    # Whatever it is: this thread goes on, or runs would outlive their leases.
                    log.warning("leases not renewed", error=repr(error))
                    if connection is not None:
                        connection.terminate()
                        connection = None
                    pause = min(pause, 0.5)
                self._give_up_ended()
                await asyncio.sleep(min(pause, self._until_first_end()))
        finally:
            if connection is not None:
                connection.terminate()

    def _to_renew(self) -> list[_Hold]:
        self._tell(self._breathe)
        with self._lock:
            holds = list(self._holds.values())
        if holds and time.monotonic() - self._alive > _FROZEN_SECONDS:
            log.error("event loop does not move, leases are given up", count=len(holds))
            return []
        return holds

    async def _connect(self) -> Connection:
        connection: Connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT,
            server_settings={"application_name": "nbledger-leases"},
        )
        return connection

    async def _renew(self, connection: Connection, holds: Sequence[_Hold]) -> None:
        asked = time.monotonic()
        with self._lock:
            usages = {
                hold.lease.execution_id: hold.usage for hold in holds if hold.usage is not None
            }
            for hold in holds:
                hold.usage = None
        kept = await renew(
            connection,
            self._worker_id,
            [hold.lease for hold in holds],
            seconds=self._lease_seconds,
            usages=usages,
        )
        for hold in holds:
            cancel = kept.get(hold.lease.execution_id)
            if cancel is None:
                self._lose(hold)
                continue
            hold.until = asked + self._away_seconds
            if cancel:
                self._tell(hold.on_cancel)

    def _give_up_ended(self) -> None:
        now = time.monotonic()
        with self._lock:
            ended = [hold for hold in self._holds.values() if hold.until <= now]
        for hold in ended:
            self._lose(hold)

    def _until_first_end(self) -> float:
        with self._lock:
            ends = [hold.until for hold in self._holds.values()]
        return max(min(ends, default=float("inf")) - time.monotonic(), 0.01)

    def _lose(self, hold: _Hold) -> None:
        with self._lock:
            known = self._holds.get(hold.lease.execution_id) is hold
            if known:
                del self._holds[hold.lease.execution_id]
        if known:
            self._tell(hold.on_lost)

    def _breathe(self) -> None:
        self._alive = time.monotonic()

    def _tell(self, what: Callable[[], None]) -> None:
        loop = self._worker_loop
        if loop is not None:
            # The loop may have been closed since.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(what)
