"""The projector: all read models, the deletions under way, and the erasing of what is deleted."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from nbledger_infrastructure.artifacts import ArtifactStore, open_store
from nbledger_infrastructure.database import Pool, close_pool, connect_pool
from nbledger_infrastructure.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.settings import Settings
from nbledger_projections import deletions, eraser, rebuild
from nbledger_projections.registry import PROJECTIONS
from nbledger_projections.runner import run_projection, run_reactor

log = structlog.get_logger(__name__)

_CONSUMERS = len(PROJECTIONS) + 2


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Run every projection and reactor until ``stop`` is set.

    ``on_ready`` is called once all of them have found their place. Any number of processes
    may run this; they take turns. Raises ``DatabaseUnavailableError`` when the database is
    away at the start; later it is waited for.
    """
    # Each consumer keeps a connection for reading, and takes another one to write.
    pool = await connect_pool(
        settings.postgres.dsn, max_size=2 * _CONSUMERS + 1, application_name="nbledger-projector"
    )
    store = EventStore(pool)
    try:
        await store.start()
        await rebuild.remove_leftovers(pool)
        await _run_all(settings, pool, store, stop, on_ready)
    finally:
        await store.close()
        await close_pool(pool)


async def _run_all(
    settings: Settings,
    pool: Pool,
    store: EventStore,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    artifacts = ArtifactStore(open_store(settings.artifacts.url))
    waiting = set[str]()

    def starts(name: str) -> Callable[[], None]:
        waiting.add(name)

        def started() -> None:
            if name in waiting:
                waiting.remove(name)
                if not waiting:
                    on_ready()

        return started

    async def delete(batch: Sequence[RecordedEvent]) -> None:
        await deletions.react(store, pool, batch)

    async def erase(batch: Sequence[RecordedEvent]) -> None:
        await eraser.react(store, pool, artifacts, batch)

    consumers = [
        *(run_projection(pool, make(), starts(name)) for name, make in PROJECTIONS.items()),
        run_reactor(pool, deletions.NAME, delete, starts(deletions.NAME)),
        run_reactor(pool, eraser.NAME, erase, starts(eraser.NAME)),
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(consumer) for consumer in consumers]
        await stop.wait()
        for task in tasks:
            task.cancel()
