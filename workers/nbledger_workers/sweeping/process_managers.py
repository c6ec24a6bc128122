"""Running the process managers: they read events, and bring about what follows from them in time.

Of each one process at a time is at work, the others stand by.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import msgspec
import structlog

from nbledger_application.actions.manager import ActionsManager
from nbledger_application.automation.manager import Automation
from nbledger_application.database_clock import Clock, database_time
from nbledger_application.notices.manager import NoticeManager
from nbledger_application.schedules.scheduler import Scheduler
from nbledger_application.webhooks.manager import WebhookManager
from nbledger_infrastructure.kafka.structured import envelope
from nbledger_infrastructure.lineage.manager import LineageManager
from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.leading import Holds, Leader, Ticking
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 0.5
"""How often is looked whether there is something to do, if nothing is due before."""


class Surroundings(msgspec.Struct, frozen=True):
    """What a process manager works with.

    ``holds`` raises where this process is no longer the one that is at work; it is asked before
    each batch.
    """

    settings: Settings
    pool: Pool
    store: EventStore
    now: Clock
    holds: Holds | None = None


class _Manager(msgspec.Struct, frozen=True):
    """``lock`` is any constant, as long as nothing else in the database locks on it."""

    lock: int
    start: Callable[[Surroundings], Ticking]


def _scheduler(around: Surroundings) -> Ticking:
    return Scheduler(
        around.pool,
        around.store,
        around.settings.execution,
        now=around.now,
        holds=around.holds,
    )


def _actions(around: Surroundings) -> Ticking:
    return ActionsManager(around.pool, around.store, around.settings, holds=around.holds)


def _automation(around: Surroundings) -> Ticking:
    return Automation(
        around.pool, around.store, around.settings, now=around.now, holds=around.holds
    )


def _notices(around: Surroundings) -> Ticking:
    return NoticeManager(
        around.pool,
        around.store,
        around.settings.notices,
        now=around.now,
        holds=around.holds,
    )


def _webhooks(around: Surroundings) -> Ticking:
    settings = around.settings.webhooks
    return WebhookManager(
        around.pool,
        around.store,
        settings,
        envelope(settings.max_body_kb, around.settings.http.address),
        now=around.now,
        holds=around.holds,
    )


def _lineage(around: Surroundings) -> Ticking:
    return LineageManager(around.pool, around.settings)


MANAGERS: Final[Mapping[str, _Manager]] = {
    "scheduler": _Manager(0x6E626C_736368, _scheduler),
    "execution-actions": _Manager(0x6E626C_616374, _actions),
    "automation": _Manager(0x6E626C_617574, _automation),
    "notices": _Manager(0x6E626C_6E6F74, _notices),
    "webhooks": _Manager(0x6E626C_776862, _webhooks),
}
"""The process managers under their names."""

LINEAGE: Final = _Manager(0x6E626C_6C696E, _lineage)
"""One that is there only where somebody is to be told."""


async def run(
    settings: Settings,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    *,
    now: Clock = database_time,
) -> None:
    """Run all of them until ``stop`` is set; ``on_ready`` is called once all work or stand by.

    Any number of processes may run this. Raises ``DatabaseUnavailableError`` when the database is
    away at the start.
    """
    managers = dict(MANAGERS)
    if settings.lineage.transport != "none":
        managers["lineage"] = LINEAGE
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            settings.postgres.dsn,
            # Each keeps the connection that holds its lock; webhooks take some at a time.
            max_size=len(managers) + 8,
            application_name="nbledger-process-managers",
        )
        stack.push_async_callback(close_pool, pool)
        store = EventStore(pool)
        await store.start()
        stack.push_async_callback(store.close)
        waiting = set(managers)

        def started(name: str) -> None:
            waiting.discard(name)
            if not waiting:
                on_ready()

        around = Surroundings(settings, pool, store, now)
        async with asyncio.TaskGroup() as tasks:
            for name, manager in managers.items():
                leader = Leader(name, manager.lock, stop, partial(started, name))
                work = partial(_manage, leader, name, manager, around)
                tasks.create_task(leader.lead(pool, work), name=name)


async def _manage(
    leader: Leader,
    name: str,
    manager: _Manager,
    around: Surroundings,
    connection: PooledConnection,
) -> None:
    log.info("process manager at work", name=name)

    started: list[Ticking] = []

    def start(holds: Holds) -> Ticking:
        started.append(manager.start(msgspec.structs.replace(around, holds=holds)))
        return started[-1]

    try:
        await leader.tick_until_told(connection, start, most_seconds=TICK_SECONDS)
    finally:
        for each in started:
            if isinstance(each, WebhookManager | LineageManager):
                # Whoever leads next sends what this one has not recorded.
                await each.close()
