"""Folding all events into several projections at once, each event read once."""

import asyncio
from collections.abc import Sequence

import structlog

from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_projections.rebuilding.beside import BATCH_EVENTS, BATCH_TIMEOUT, Beside
from nbledger_projections.rebuilding.progress import Reporter

log = structlog.get_logger(__name__)


async def fill(pool: Pool, built: Sequence[Beside], reporter: Reporter) -> None:
    """Fold every event there is, from the first one on.

    A projection that fails has its ``failure`` set, and keeps none of the others.
    """
    store = EventStore(pool)
    going = list(built)

    def read(after: int) -> asyncio.Task[list[RecordedEvent]]:
        return asyncio.create_task(store.read_all(after_position=after, limit=BATCH_EVENTS))

    reading = read(0)
    try:
        while going:
            async with asyncio.timeout(BATCH_TIMEOUT):
                events = await reading
            if not events:
                return
            # The next batch is read while this one is folded.
            reading = read(events[-1].position)
            await _fold(going, events)
            going = [each for each in going if each.failure is None and _has_more(each)]
            await reporter.pulse()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _has_more(built: Beside) -> bool:
    return built.until is None or built.position < built.until


async def _fold(going: Sequence[Beside], events: Sequence[RecordedEvent]) -> None:
    """Fold a batch: the server writes for some while others are folded here."""
    outcomes = await asyncio.gather(
        *(built.fold(events) for built in going), return_exceptions=True
    )
    for built, outcome in zip(going, outcomes, strict=True):
        if isinstance(outcome, Exception):
            log.warning("projection given up", projection=built.name, error=repr(outcome))
            built.failure = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
