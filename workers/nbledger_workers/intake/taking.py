"""Which run a free slot takes: the one that the store says is next, whoever has rung for what."""

import asyncio
import time
from collections.abc import Collection
from typing import Final, Protocol
from uuid import UUID

import structlog

from nbledger_application import queue
from nbledger_application.claims import Histories
from nbledger_application.queue import ShareLimits, Waiting
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError, Pool
from nbledger_workers.intake.capacity import Slots
from nbledger_workers.intake.doorbell import Doorbell
from nbledger_workers.intake.turns import Turns

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
"""A worker with room looks into the store so often though nothing has rung: a message may be lost,
another worker may have got it and have no room, or a run elsewhere may have ended that its
notebook's limit was waiting for."""

_SETTLE_SECONDS: Final = 0.1
"""A worker that has taken the run that rang last looks again after so long: most often nothing else
waits, and the run that begins has the processor to itself."""

PASS_OVER_SECONDS: Final = 2.0
"""For how long a run is left alone that could not be claimed."""


class Taker(Protocol):
    """Who claims and begins runs."""

    async def read(self, command: Command) -> Histories | None:
        """What a claim of this run reads, ahead of it; ``None`` if it cannot be read now."""
        ...

    async def take(self, command: Command, histories: Histories | None) -> bool:
        """Claim and begin a run; tells whether it was to be had. Does not raise."""
        ...


async def take_turns(
    pool: Pool,
    kernel_types: Collection[str],
    taker: Taker,
    *,
    slots: Slots,
    turns: Turns,
    doorbell: Doorbell,
    limits: ShareLimits = queue.NO_LIMITS,
) -> None:
    """While there is room, give ``taker`` what is next, one after the other, for ever.

    The run that has rung last is read while the store is asked what is next: most often it is that,
    and nothing else waits.
    """
    chooser = _Chooser(pool, kernel_types, turns, limits)
    lightest = min(slots.weight(each) for each in kernel_types)
    while True:
        await slots.room(lightest)
        command = doorbell.answer()
        if command is None:
            chosen, histories = await chooser.choose(), None
        else:
            chosen, histories = await asyncio.gather(chooser.choose(), taker.read(command))
        if chosen is None:
            await doorbell.wait(LOOK_SECONDS)
            continue
        weight = slots.weight(chosen.kernel_type)
        if not slots.fits(weight):
            # It is its turn: lighter ones do not overtake it, lest it wait for ever.
            await slots.room(weight)
            continue
        guessed = command is not None and command.execution_id == chosen.execution_id
        if not await taker.take(chosen.command, histories if guessed else None):
            chooser.pass_over(chosen.execution_id)
        elif guessed:
            await doorbell.wait(_SETTLE_SECONDS)


class _Chooser:
    """Asks the store, and remembers what could not be claimed and whether the store is away."""

    def __init__(
        self, pool: Pool, kernel_types: Collection[str], turns: Turns, limits: ShareLimits
    ) -> None:
        self._pool = pool
        self._kernel_types = kernel_types
        self._turns = turns
        self._limits = limits
        self._passed_over: dict[UUID, float] = {}
        self._away = False

    def pass_over(self, execution_id: UUID) -> None:
        """Leave this run alone for a while, so that it does not hold up the others."""
        self._passed_over[execution_id] = time.monotonic() + PASS_OVER_SECONDS

    async def choose(self) -> Waiting | None:
        now = time.monotonic()
        self._passed_over = {
            each: until for each, until in self._passed_over.items() if until > now
        }
        try:
            chosen = await queue.next_waiting(
                self._pool,
                self._kernel_types,
                self._turns.order(),
                limits=self._limits,
                passed_over=self._passed_over,
            )
        except (DatabaseUnavailableError, *UNAVAILABLE) as error:
            if not self._away:
                self._away = True
                log.warning("waiting work not looked for", error=repr(error))
            return None
        if self._away:
            self._away = False
            log.info("waiting work can be looked for again")
        return chosen
