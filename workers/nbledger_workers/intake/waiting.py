"""What waits for a worker, as the store tells it: for whom no command has come."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import structlog

from nbledger_application import queue
from nbledger_application.queue import Waiting
from nbledger_domain.execution import Priority
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError, Pool
from nbledger_workers.intake.capacity import Slots
from nbledger_workers.intake.consumers import Doorbell
from nbledger_workers.intake.turns import Turns

log = structlog.get_logger(__name__)

SILENT_SECONDS: Final = 0.75
"""A worker that has had room for so long, and heard of no command, looks into the store; and what
has waited there for so long may have lost its command."""

LOOK_SECONDS: Final = 1.0
"""How often it looks then."""

BUSY_LOOK_SECONDS: Final = 30.0
"""How often it looks where commands come all the time: one that is lost must not wait for ever."""


async def look(
    pool: Pool,
    kernel_types: Collection[str],
    take: Callable[[Command], Awaitable[None]],
    *,
    slots: Slots,
    turns: Turns,
    doorbell: Doorbell,
) -> None:
    """Give ``take`` what waits in the store while Kafka brings nothing, for ever.

    The broker may be away, have forgotten, or be giving its partitions out anew; a command may
    lie in the partition of a worker that is full. What is claimed here is dropped when its
    message comes after all. Looks once at the start.
    """
    away = False
    looked_at: float | None = None
    while True:
        await slots.room()
        if looked_at is not None:
            silent = max(slots.free_since, doorbell.rang_at) + SILENT_SECONDS
            due = min(silent, looked_at + BUSY_LOOK_SECONDS)
            pause = max(due, looked_at + LOOK_SECONDS) - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
                continue
        try:
            found = await queue.waiting(
                pool, kernel_types, older_than=SILENT_SECONDS, limit=max(slots.free, 1)
            )
            if away:
                away = False
                log.info("waiting work can be looked for again")
        except (DatabaseUnavailableError, *UNAVAILABLE) as error:
            found = {}
            if not away:
                away = True
                log.warning("waiting work not looked for", error=repr(error))
        taken = 0
        while slots.free > 0 and (chosen := _next(found, turns)) is not None:
            await take(chosen.command)
            taken += 1
        if taken:
            log.info("work found without its command", count=taken)
        looked_at = time.monotonic()


def _next(found: dict[Priority, list[Waiting]], turns: Turns) -> Waiting | None:
    for priority in turns.order():
        if found.get(priority):
            return found[priority].pop(0)
    return None
