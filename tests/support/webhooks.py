"""Webhooks in tests: events for them, and a manager that a test drives step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from support.notices import Ahead
from support.schedules import CALLER

from nbledger_application.caller import Caller
from nbledger_application.preconditions import UNCONDITIONAL
from nbledger_application.webhooks.manager import WebhookManager
from nbledger_application.webhooks.subscribing import (
    Subscription,
    change_webhook,
    create_webhook,
)
from nbledger_domain.webhook import EventSelection
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.kafka.structured import envelope
from nbledger_infrastructure.postgres.checkpoints import CheckpointMovedError
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, NewEvent, Stream
from nbledger_infrastructure.settings import Webhooks

ADDRESS = "https://notebooks.example.com"
LOOPBACK = ["127.0.0.0/8"]
RENAMED = "notebook.renamed.v1"
METADATA = Metadata(actor="test")


class Project:
    """A project with webhooks, on a database of the test's own."""

    def __init__(self, pool: Pool, store: EventStore, caller: Caller = CALLER) -> None:
        self.caller = caller
        self.pool = pool
        self.store = store
        self._versions: dict[UUID, int] = {}

    async def hook(
        self, url: str, *types: str, tags: tuple[str, ...] = (), ordered: bool = False
    ) -> tuple[UUID, str]:
        """A webhook with its secret, for events of notebooks unless other types are told."""
        asked = subscription(url, types or ("notebook",), tags=tags, ordered=ordered)
        return await create_webhook(self.pool, self.store, self.caller, asked, limit=1000)

    async def enable(self, webhook_id: UUID, url: str, *, enabled: bool = True) -> None:
        await change_webhook(
            *(self.store, self.caller, webhook_id, subscription(url, ("notebook",))),
            enabled=enabled,
            precondition=UNCONDITIONAL,
        )

    async def event(
        self,
        stream_id: UUID | None = None,
        *,
        type_: str = RENAMED,
        data: bytes = b'{"name":"N"}',
        project_id: UUID | None = None,
    ) -> UUID:
        """An event of a stream, which is a new one unless it is told; returns the event's id."""
        stream_id = stream_id or uuid4()
        version = self._versions.get(stream_id, 0)
        event = NewEvent(event_id=uuid4(), type=type_, data=data, occurred_at=now())
        stream = Stream(
            stream_id, stream_id, self.caller.tenant_id, project_id or self.caller.project_id
        )
        await self.store.append(stream, [event], expected_version=version, metadata=METADATA)
        self._versions[stream_id] = version + 1
        return event.event_id

    async def deliveries(self, webhook_id: UUID) -> list[tuple[str, int]]:
        """State and number of attempts of each delivery, in the order of events."""
        async with acquire(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT state, attempts FROM webhook_delivery WHERE webhook_id = $1"
                " ORDER BY position",
                webhook_id,
            )
        return [(row[0], row[1]) for row in rows]

    async def errors(self, webhook_id: UUID) -> list[str | None]:
        """What is logged of each attempt, in order."""
        async with acquire(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT error FROM webhook_attempt WHERE webhook_id = $1 ORDER BY position, number",
                webhook_id,
            )
        return [row[0] for row in rows]


class Hooks(Project):
    """Likewise, with a manager that the test drives."""

    def __init__(
        self, pool: Pool, store: EventStore, manager: WebhookManager, now: Ahead, caller: Caller
    ) -> None:
        super().__init__(pool, store, caller)
        self.manager = manager
        self.now = now

    async def work(self) -> None:
        """Let everything be sent that is due, and be recorded."""
        for _ in range(3):
            try:
                while await self.manager.tick() == 0.0:
                    pass
            except CheckpointMovedError:
                continue
            await self.manager.settled()


def subscription(
    url: str, types: tuple[str, ...], *, tags: tuple[str, ...] = (), ordered: bool = False
) -> Subscription:
    return Subscription(
        url=url,
        wanted=EventSelection(event_types=types, tags=tags),
        description="",
        ordered=ordered,
    )


@asynccontextmanager
async def hooks(
    pool: Pool,
    store: EventStore,
    caller: Caller = CALLER,
    address: str = ADDRESS,
    **settings: Any,
) -> AsyncIterator[Hooks]:
    """Webhooks whose manager sends to loopback, and to what is allowed by ``settings`` else."""
    clock = Ahead()
    chosen = Webhooks(**{"allowed_networks": LOOPBACK, "timeout_seconds": 20.0, **settings})
    manager = WebhookManager(pool, store, chosen, envelope(chosen.max_body_kb, address), now=clock)
    try:
        yield Hooks(pool, store, manager, clock, caller)
    finally:
        await manager.close()
