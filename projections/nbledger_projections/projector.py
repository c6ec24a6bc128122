"""The projector: all read models, and what reacts to events beside them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import structlog

from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store
from nbledger_infrastructure.postgres.database import Pool, close_pool, connect_pool
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.settings import Settings
from nbledger_projections import rebuild
from nbledger_projections.machinery.runner import run_projection, run_reactor
from nbledger_projections.registry import READ_MODELS

log = structlog.get_logger(__name__)

Reactor = Callable[[EventStore, Pool, ArtifactStore, Sequence[RecordedEvent]], Awaitable[None]]


async def run(
    settings: Settings,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    *,
    reactors: Mapping[str, Reactor],
) -> None:
    """Run every projection, and every reactor under its name, until ``stop`` is set.

    ``on_ready`` is called once all of them have found their place. Any number of processes
    may run this; they take turns. Raises ``DatabaseUnavailableError`` when the database is
    away at the start; later it is waited for.
    """
    # Each consumer keeps a connection for reading, and takes another one to write.
    consumers = len(READ_MODELS) + len(reactors)
    pool = await connect_pool(
        settings.postgres.dsn, max_size=2 * consumers + 1, application_name="nbledger-projector"
    )
    store = EventStore(pool)
    try:
        await store.start()
        await rebuild.remove_leftovers(pool)
        await _run_all(settings, pool, store, stop, on_ready, reactors=reactors)
    finally:
        await store.close()
        await close_pool(pool)


async def _run_all(
    settings: Settings,
    pool: Pool,
    store: EventStore,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    *,
    reactors: Mapping[str, Reactor],
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

    consumers = [
        *(
            run_projection(pool, model.projection(), starts(name))
            for name, model in READ_MODELS.items()
        ),
        *(
            run_reactor(pool, name, partial(react, store, pool, artifacts), starts(name))
            for name, react in reactors.items()
        ),
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(consumer) for consumer in consumers]
        await stop.wait()
        for task in tasks:
            task.cancel()
