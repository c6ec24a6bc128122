"""Bringing checkpoints out of the house, beside the sealing, which waits for none of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, Protocol

import structlog

from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.postgres.leading import INTERRUPTIONS

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 10.0
"""How often is looked whether something is due that nobody has told of."""

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 60.0
"""Pauses after something that has failed."""

Deliver = Callable[[], Awaitable[bool]]
"""Delivers what is due; returns whether there may be more."""

Lacks = Callable[[str, str | None], None]
"""Is told of what does not work, by its name, and why; None where it works."""


class UndeliverableError(Exception):
    """An outlet does not take what it is given; the text says why."""


class Outlet(Protocol):
    """Something outside that keeps checkpoints.

    After any error it is opened anew, and what it has not acknowledged is delivered again; those
    among ``faults`` are told in a line.
    """

    @property
    def name(self) -> str:
        """What it is called in deliveries and logs."""
        ...

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """Errors that are expected of it."""
        ...

    def opened(self) -> AbstractAsyncContextManager[Deliver]:
        """Open it for deliveries."""
        ...


class Couriers:
    """Those who bring checkpoints to the outlets, one for each."""

    def __init__(self, outlets: Sequence[Outlet], lacks: Lacks) -> None:
        self._lacks = lacks
        self._wanted = {outlet.name: asyncio.Event() for outlet in outlets}
        self._tasks = [
            asyncio.create_task(self._bring(outlet), name=f"to {outlet.name}") for outlet in outlets
        ]

    def wake(self) -> None:
        """Say that something was signed."""
        for wanted in self._wanted.values():
            wanted.set()

    async def end(self) -> None:
        """End all of them; what has not arrived is delivered by whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name in self._wanted:
            self._lacks(name, None)

    async def _bring(self, outlet: Outlet) -> None:
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        expected: tuple[type[Exception], ...] = (UndeliverableError, *outlet.faults, *INTERRUPTIONS)
        while True:
            try:
                async with outlet.opened() as deliver:
                    await self._deliver(outlet.name, deliver, backoff)
            except expected as error:
                reason = str(error) or type(error).__name__
                log.warning(
                    "checkpoints not delivered",
                    outlet=outlet.name,
                    reason=reason,
                    cause=repr(error.__cause__),
                    failures=backoff.failures + 1,
                )
                self._lacks(outlet.name, reason)
            except Exception:
                log.exception("checkpoints not delivered", outlet=outlet.name)
                self._lacks(outlet.name, "stopped by a fault, which the log has")
            await backoff.wait()

    async def _deliver(self, name: str, deliver: Deliver, backoff: Backoff) -> None:
        wanted = self._wanted[name]
        while True:
            wanted.clear()
            while await deliver():
                pass
            if backoff.failures:
                log.info("checkpoints are delivered again", outlet=name)
            backoff.reset()
            self._lacks(name, None)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await wanted.wait()


@asynccontextmanager
async def couriers_of(outlets: Sequence[Outlet], lacks: Lacks) -> AsyncIterator[Couriers]:
    """Couriers to these outlets, for the block."""
    couriers = Couriers(outlets, lacks)
    try:
        yield couriers
    finally:
        await couriers.end()


def nobody(what: str, problem: str | None) -> None:
    """Tell nobody."""
