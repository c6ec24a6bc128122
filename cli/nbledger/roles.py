"""The roles a deployment is made of, each importing its libraries only when it runs."""

import asyncio

from nbledger.role import OnReady
from nbledger_infrastructure.settings import Settings


async def api(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
    """Serve the REST API."""
    from nbledger_http.edge.server import serve

    await serve(settings, stop=stop, on_ready=lambda url: on_ready(url=url))


async def worker(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
    """Run notebooks."""
    from nbledger_workers.worker import run

    await run(settings, stop, on_ready)


async def projector(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
    """Keep the read models up to date, and take the next step of what events bring about."""
    from nbledger_application.reactions import REACTORS
    from nbledger_projections.projector import run

    await run(settings, stop, on_ready, reactors=REACTORS)


async def relay(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
    """Publish events, states and commands; recover lost work; run the process managers."""
    from nbledger_infrastructure.kafka.clients import publishes_states
    from nbledger_infrastructure.kafka.relay import run as publish
    from nbledger_infrastructure.kafka.replays.manager import run as replay
    from nbledger_infrastructure.settings_loading import require
    from nbledger_workers.sweeping.process_managers import run as manage
    from nbledger_workers.sweeping.sweeper import run as sweep

    if settings.lineage.transport == "http":
        require(settings, "lineage.url")
    parts = [publish, replay, sweep, manage]
    if publishes_states(settings.kafka):
        from nbledger_projections.state_topics.publisher import run as publish_states

        parts.append(publish_states)
    all_ready = _Countdown(len(parts), on_ready)
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(part(settings, stop, all_ready))


async def sealer(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
    """Enter events in the logs that prove them, and sign checkpoints."""
    from nbledger_audit.sealer import run

    await run(settings, stop, on_ready, on_ready.lacks)


class _Countdown:
    """Reports readiness once all of ``count`` parts are ready."""

    def __init__(self, count: int, on_ready: OnReady) -> None:
        self._left = count
        self._on_ready = on_ready

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._on_ready()
