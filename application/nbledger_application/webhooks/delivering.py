"""Sending to one webhook what is due of it, until nothing more is due.

How much is sent at once grows while all goes well, from one to a whole batch, and begins anew with
one after a failure. A webhook that fails or hangs is served in a lane of its own, beside the
others.
"""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_application.database_clock import Clock
from nbledger_application.webhooks import attempts, rows, secrets
from nbledger_application.webhooks.attempts import Attempt
from nbledger_application.webhooks.rows import Pending, Subscriber
from nbledger_application.webhooks.signing import signed_headers
from nbledger_domain.webhook import Webhook
from nbledger_infrastructure import clock
from nbledger_infrastructure.actors import WEBHOOKS
from nbledger_infrastructure.egress.posting import Poster
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, RecordedEvent

AT_ONCE: Final = 32
"""A batch has so many deliveries at most; each batch is recorded in one transaction."""

STATEMENTS: Final = 3
"""So many webhooks are read or recorded at once: the connections are shared with others."""

Envelope = Callable[[RecordedEvent], bytes]
"""Makes the body of a message of an event."""

_CONSTANT: Final = {
    "content-type": "application/cloudevents+json; charset=utf-8",
    "user-agent": "nbledger-webhooks/1",
    "accept-encoding": "identity",
}


class Lanes(msgspec.Struct, frozen=True):
    """How many attempts there may be at a time: of webhooks that work, and of those that fail."""

    good: asyncio.Semaphore
    failing: asyncio.Semaphore

    @classmethod
    def of(cls, concurrency: int) -> "Lanes":
        """Three quarters for those that work."""
        failing = max(concurrency // 4, 1)
        return cls(asyncio.Semaphore(concurrency - failing), asyncio.Semaphore(failing))


class Pace(msgspec.Struct):
    """How a webhook has done: how many deliveries are attempted next, and in which lane."""

    size: int = 1
    failing: bool = False

    def note(self, *, good: bool) -> None:
        """Note how a batch went."""
        self.size = min(self.size * 2, AT_ONCE) if good else 1
        self.failing = not good


class Deliverer:
    """Sends to webhooks; what it did is in their log before it goes on."""

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        poster: Poster,
        envelope: Envelope,
        lanes: Lanes,
        *,
        per_webhook: int,
        now: Clock,
    ) -> None:
        self._pool = pool
        self._store = store
        self._poster = poster
        self._envelope = envelope
        self._lanes = lanes
        self._per_webhook = per_webhook
        self._now = now
        self._database = asyncio.Semaphore(STATEMENTS)

    async def deliver(self, webhook_id: UUID, pace: Pace) -> datetime | None:
        """Send what is due to this webhook; returns when more will be, ``None`` if nothing waits.

        Raises ``DatabaseUnavailableError``: what was sent and not recorded is sent again.
        """
        while True:
            async with self._database, acquire(self._pool) as connection:
                now = await self._now(connection)
                subscriber = await rows.subscriber(connection, webhook_id)
                if subscriber is None or not subscriber.enabled:
                    return None
                due = await rows.due(connection, webhook_id, now, pace.size)
                if not due:
                    return await rows.next_due(connection, webhook_id)
                keys = await secrets.read(connection, subscriber.secrets_at(now))
            began = time.monotonic()

            def time_of_day(now: datetime = now, began: float = began) -> datetime:
                return now + timedelta(seconds=time.monotonic() - began)

            made = await self._attempt_all(subscriber, due, keys, time_of_day, pace)
            async with self._database, acquire(self._pool) as connection:
                after = await self._now(connection)
                await attempts.record(connection, webhook_id, made, after)
            pace.note(good=all(each.delivered for each in made))
            gone = [each for each in made if each.gone]
            if gone:
                await self._disable(webhook_id, gone[0])
                return None

    async def _attempt_all(
        self,
        subscriber: Subscriber,
        due: list[Pending],
        keys: list[bytes],
        now: Callable[[], datetime],
        pace: Pace,
    ) -> list[Attempt]:
        lane = self._lanes.failing if pace.failing else self._lanes.good
        own = asyncio.Semaphore(self._per_webhook)

        async def attempt(delivery: Pending) -> Attempt:
            async with own, lane:
                return await self._attempt(subscriber, delivery, keys, now)

        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(attempt(each)) for each in due]
        return [each.result() for each in made]

    async def _attempt(
        self,
        subscriber: Subscriber,
        delivery: Pending,
        keys: list[bytes],
        now: Callable[[], datetime],
    ) -> Attempt:
        body = self._envelope(delivery.event)
        # By the clock of this machine: receivers refuse what is a few minutes off.
        signed = signed_headers(delivery.event.event_id, clock.now(), body, keys)
        headers = {**_CONSTANT, **signed}
        at = now()
        answered = await self._poster.post(subscriber.url, headers, body)
        return Attempt(
            delivery=delivery,
            at=at,
            url=subscriber.url,
            headers=headers,
            answered=answered,
            jitter=random.random(),  # noqa: S311 (spreads attempts, no more)
        )

    async def _disable(self, webhook_id: UUID, gone: Attempt) -> None:
        """The receiver wants nothing any more."""
        metadata = Metadata(
            actor=WEBHOOKS,
            correlation_id=str(webhook_id),
            causation_id=str(gone.delivery.event.event_id),
        )
        await repository.update(
            *(self._store, Webhook, webhook_id),
            lambda webhook: webhook.disable("gone", at=clock.now()),
            metadata,
        )
