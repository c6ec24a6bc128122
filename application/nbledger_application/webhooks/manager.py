"""The process manager of webhooks: who gets which event, and that it is sent in time.

It follows the events, and writes for each webhook what is to be sent, in one transaction with its
position. What is due is sent by a task for each webhook, so that none waits for another.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from nbledger_application.database_clock import Clock
from nbledger_application.following import Following
from nbledger_application.webhooks import following, redelivering, rows
from nbledger_application.webhooks.delivering import Deliverer, Pace
from nbledger_application.webhooks.following import Subscriptions, wanted_by_tags
from nbledger_application.webhooks.lanes import PARKED, Lanes
from nbledger_application.webhooks.loading import Envelope
from nbledger_infrastructure.egress.addresses import Reach, networks
from nbledger_infrastructure.egress.posting import Poster, trusting
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Webhooks

log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 0.2
"""How often is looked for new events where there are webhooks."""

RETRY_SECONDS: Final = 5.0
"""After so long a webhook is taken up again whose deliveries could not be read or recorded."""

FORGET_SECONDS: Final = 600.0
"""How often the log is looked through for what is too old."""

_FORGET: Final = (
    """
    DELETE FROM webhook_attempt AS a USING webhook_delivery AS d
    WHERE a.webhook_id = d.webhook_id AND a.position = d.position
        AND d.state <> 'pending' AND d.ended_at < $1
    """,
    "DELETE FROM webhook_delivery WHERE state <> 'pending' AND ended_at < $1",
)


class WebhookManager:
    """Delivers at each :meth:`tick`, and between; of several processes one at a time should.

    ``holds`` is asked before each batch of events whether this process still is the one: it raises
    where it is not. :meth:`close` ends what is under way.
    """

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        settings: Webhooks,
        envelope: Envelope,
        *,
        now: Clock,
        holds: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._now = now
        self._poster = Poster(
            timeout_seconds=settings.timeout_seconds,
            # As many as attempts: none waits for the name of another.
            at_once=settings.concurrency * (1 + PARKED),
            reach=Reach(
                allowed=networks(settings.allowed_networks),
                refused=networks(settings.refused_networks),
            ),
            proxy_url=settings.proxy_url,
            tls=trusting(settings.ca_file),
        )
        self._deliverer = Deliverer(
            *(pool, store, self._poster, envelope, Lanes(settings.concurrency)),
            per_webhook=settings.concurrency_per_webhook,
            max_body_kb=settings.max_body_kb,
            now=now,
        )
        self._moved: set[UUID] = set()
        self._changed: set[UUID] = set()
        self._following = Following(
            *(pool, following.NAME, following.interests()),
            Subscriptions(now, self._note),
            holds,
        )
        self._due: dict[UUID, datetime] = {}
        self._paces: dict[UUID, Pace] = {}
        self._tasks: dict[UUID, asyncio.Task[datetime | None]] = {}
        self._started = False
        self._ranges = True
        self._forget_at: datetime | None = None

    def _note(self, wanting: set[UUID], changed: set[UUID]) -> None:
        """Something is to be sent; the batch that a changed webhook is sent is out of date."""
        self._moved |= wanting | changed
        self._changed |= changed

    async def tick(self) -> float | None:
        """Take up new events and start what is due; returns the seconds until the next look.

        Raises ``DatabaseUnavailableError``, and ``CheckpointMovedError`` where another one is at
        work; the next call goes on where this one was.
        """
        if not self._settings.enabled:
            return None
        await self._following.catch_up()
        while self._changed:
            if (pace := self._paces.get(self._changed.pop())) is not None:
                pace.halted = True
        async with acquire(self._pool) as connection:
            now = await self._now(connection)
            if not self._started:
                for webhook_id, at, failing in await rows.all_due(connection):
                    self._due[webhook_id] = at
                    self._paces[webhook_id] = Pace(failing=failing)
                self._started = True
        self._ranges = self._ranges or bool(self._moved)
        while self._moved:
            self._due[self._moved.pop()] = now
        if self._ranges:
            self._ranges = await self._redeliver(now)
        self._reap(now)
        self._start(now)
        await self._forget(now)
        if self._ranges:
            return 0.0
        return TICK_SECONDS if self._due or self._tasks or self._paces else None

    async def settled(self) -> None:
        """Wait until none of the attempts that are under way now is any more."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def close(self) -> None:
        """End all attempts; those that were not recorded are made again."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        await self._deliverer.close()
        await self._poster.aclose()

    def _reap(self, now: datetime) -> None:
        for webhook_id in [each for each, task in self._tasks.items() if task.done()]:
            task = self._tasks.pop(webhook_id)
            error = task.exception()
            if error is not None:
                log.warning("webhook held up", webhook_id=str(webhook_id), error=repr(error)[:500])
                again: datetime | None = now + timedelta(seconds=RETRY_SECONDS)
            else:
                again = task.result()
            if again is not None:
                self._due[webhook_id] = min(again, self._due.get(webhook_id, again))
            elif webhook_id not in self._due:
                self._paces.pop(webhook_id, None)

    def _start(self, now: datetime) -> None:
        ready = [each for each, at in self._due.items() if at <= now and each not in self._tasks]
        for webhook_id in ready:
            del self._due[webhook_id]
            pace = self._paces.setdefault(webhook_id, Pace())
            self._tasks[webhook_id] = asyncio.create_task(
                self._deliverer.deliver(webhook_id, pace), name=f"webhook {webhook_id}"
            )

    async def _redeliver(self, now: datetime) -> bool:
        """Work off a part of a range that is to be sent again; returns whether more is left."""
        async with acquire(self._pool) as connection, connection.transaction():
            chunk = await redelivering.next_chunk(connection)
            if chunk is None:
                return False
            webhook_id = chunk.subscriber.webhook_id
            wished = await wanted_by_tags(
                connection, {webhook_id: chunk.subscriber}, chunk.candidates
            )
            if wished:
                await rows.wish(connection, wished, now, again=True)
        if wished:
            self._due[webhook_id] = now
        return True

    async def _forget(self, now: datetime) -> None:
        if self._forget_at is not None and now < self._forget_at:
            return
        self._forget_at = now + timedelta(seconds=FORGET_SECONDS)
        before = now - timedelta(days=self._settings.log_days)
        async with acquire(self._pool) as connection, connection.transaction():
            for statement in _FORGET:
                await connection.execute(statement, before)
