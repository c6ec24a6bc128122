"""The roles of ``nbledger up`` as child processes, started again when they end by themselves."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil
import structlog

from nbledger import notify
from nbledger.embedded.errors import EmbeddedError, ServiceFailedError
from nbledger.embedded.processes import limit_log, spawn, terminate, wait

log = structlog.get_logger(__name__)

READY_SECONDS = 60.0
RESTART_PAUSE_SECONDS = 1.0
MEMORY_SECONDS = 2.0
"""How often it is looked how much memory a service takes."""
_LEAST_GROWTH_MB = 1


class Child:
    """One role, kept running. ``details`` is what it reported when it became ready."""

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str],
        *,
        instance: str,
        log_file: Path,
        socket: Path,
    ) -> None:
        self.name = name
        self.details: dict[str, str] = {}
        self._environment = dict(environment)
        self._instance = instance
        self._log_file = log_file
        self._socket = socket
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start it and return once it is ready.

        Raises :class:`ServiceFailedError` when it ends before, or takes longer than a minute.
        """
        limit_log(self._log_file)
        async with notify.listen(self._socket) as listener:
            self._process = process = spawn(
                [sys.executable, "-P", "-m", "nbledger", self.name],
                instance=self._instance,
                env={
                    **os.environ,
                    **self._environment,
                    notify.SOCKET_VARIABLE: str(self._socket),
                },
                log_file=self._log_file,
            )
            ended = asyncio.ensure_future(wait(process))
            either: set[asyncio.Future[Any]] = {ended, listener.ready}
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                reason = f"was not ready within {READY_SECONDS:g} s"
                raise ServiceFailedError(self.name, reason, self._log_file) from None
            finally:
                if not ended.done():
                    ended.cancel()
            if not listener.ready.done():
                reason = f"ended with status {process.poll()}"
                raise ServiceFailedError(self.name, reason, self._log_file)
            self.details = listener.ready.result()

    def pin(self, variable: str, value: str) -> None:
        """Set an environment variable for the next start."""
        self._environment[variable] = value

    async def keep_running(self) -> None:
        """Start it again whenever it ends, until :meth:`stop` is called."""
        while self._process is not None:
            started = time.monotonic()
            status = await wait(self._process)
            if self._stopping:
                return
            log.warning("a process ended and is started again", name=self.name, status=status)
            if time.monotonic() - started < RESTART_PAUSE_SECONDS:
                await asyncio.sleep(RESTART_PAUSE_SECONDS)
            try:
                await self.start()
            except (EmbeddedError, OSError) as error:
                log.exception("a process could not be started again", error=str(error))

    async def stop(self, grace: float) -> None:
        """End it: politely, and after ``grace`` seconds for good. Safe to call twice."""
        self._stopping = True
        if self._process is not None:
            await terminate(self._process, grace)


class Running(Protocol):
    """A started embedded service."""

    process: subprocess.Popen[bytes]

    async def stop(self) -> None:
        """End it."""


class Service:
    """An embedded service, kept running on one port.

    One that takes more than ``memory_mb`` millions of bytes is started anew; 0 is no limit.
    """

    def __init__(
        self,
        name: str,
        running: Running,
        start_again: Callable[[], Awaitable[Running]],
        *,
        memory_mb: int = 0,
    ) -> None:
        self._name = name
        self._running = running
        self._start_again = start_again
        self._memory_mb = memory_mb
        self._stopping = False

    async def keep_running(self) -> None:
        """Start it again whenever it ends, until :meth:`stop` is called."""
        while True:
            if await self._ended_by_itself():
                status = await wait(self._running.process)
                if self._stopping:
                    return
                log.warning("a service ended and is started again", name=self._name, status=status)
            try:
                await self._running.stop()
                self._running = await self._start_again()
            except (EmbeddedError, OSError) as error:
                log.exception("a service could not be started again", error=str(error))
                await asyncio.sleep(RESTART_PAUSE_SECONDS)

    async def _ended_by_itself(self) -> bool:
        """Wait until it has; False when it lives and has come to take too much memory."""
        if not self._memory_mb:
            return True
        ended = asyncio.ensure_future(wait(self._running.process))
        limit = 0.0
        try:
            while not (await asyncio.wait({ended}, timeout=MEMORY_SECONDS))[0]:
                used = _resident_bytes(self._running.process.pid) / 1e6
                # One that begins above its limit is not started anew for that alone.
                limit = limit or max(self._memory_mb, used + _LEAST_GROWTH_MB)
                if used > limit and not self._stopping:
                    log.info(
                        "a service has filled its memory and is started anew",
                        name=self._name,
                        memory_mb=round(used),
                        limit_mb=self._memory_mb,
                    )
                    return False
        finally:
            ended.cancel()
        return True

    async def stop(self) -> None:
        """End it in order."""
        self._stopping = True
        await self._running.stop()


def _resident_bytes(pid: int) -> int:
    try:
        resident: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0  # it has just ended
    return resident
