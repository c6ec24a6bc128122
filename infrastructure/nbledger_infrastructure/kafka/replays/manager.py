"""Carries out the replays that are asked for by API, one after the other."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from nbledger_infrastructure.kafka.replays.carrying_out import carry_out
from nbledger_infrastructure.postgres import event_replays
from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_replays import EventReplay
from nbledger_infrastructure.postgres.leading import Leader
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked for replays."""

# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_72706C


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Carry out replays until ``stop`` is set; ``on_ready`` is called at work or standing by.

    Any number of processes may run this. Raises ``DatabaseUnavailableError`` when the database is
    away at the start.
    """
    pool = await connect_pool(
        settings.postgres.dsn, max_size=3, application_name="nbledger-replays"
    )
    leader = Leader("replays", _LOCK, stop, on_ready)

    async def work(connection: PooledConnection) -> None:
        leader.at_work()
        while not stop.is_set():
            # It holds the lock: a connection that is lost ends the lead.
            replay = await event_replays.next_one(connection)
            if replay is None:
                await leader.pause(LOOK_SECONDS)
                continue
            await _carry_out(pool, settings, replay, stop)
            leader.succeeded()

    try:
        await leader.lead(pool, work)
    finally:
        await close_pool(pool)


async def _carry_out(
    pool: Pool, settings: Settings, replay: EventReplay, stop: asyncio.Event
) -> None:
    asked = replay.asked
    log.info("replay begins", replay_id=str(replay.replay_id), topic=asked.topic)
    try:
        ended = await carry_out(pool, settings, replay, stop)
    except Exception as error:
        # One that cannot go on must not keep the others waiting.
        log.exception("replay failed", replay_id=str(replay.replay_id))
        async with acquire(pool) as connection:
            await event_replays.end(connection, replay.replay_id, "failed", repr(error))
        return
    if ended.ended:
        log.info(
            "replay over",
            replay_id=str(replay.replay_id),
            state=ended.state,
            published=ended.published,
        )
