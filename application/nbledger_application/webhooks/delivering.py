"""Sending to one webhook what is due of it, until nothing more is due.

How much is sent at once grows while all goes well, from one to a whole batch, and begins anew with
one after a failure. What is read and written is so for many webhooks at once.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_application.database_clock import Clock
from nbledger_application.webhooks import attempts
from nbledger_application.webhooks.attempts import Attempt
from nbledger_application.webhooks.gathered import Gathered
from nbledger_application.webhooks.lanes import Lanes
from nbledger_application.webhooks.loading import Envelope, Loader, Pending, Ready
from nbledger_application.webhooks.rows import Subscriber
from nbledger_application.webhooks.signing import signed_headers
from nbledger_domain.webhook import Webhook
from nbledger_infrastructure import clock
from nbledger_infrastructure.actors import WEBHOOKS
from nbledger_infrastructure.egress.posting import Poster
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    acquire,
)
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata

AT_ONCE: Final = 32
"""A batch has so many deliveries of a webhook at most."""

WEBHOOKS_AT_ONCE: Final = 100
"""So many webhooks are read, or written, in one transaction."""

BODIES_AT_ONCE: Final = 100

COMMON: Final = (DatabaseUnavailableError, *UNAVAILABLE)
"""What happens to all that is read or written at the time."""

_CONSTANT: Final = {
    "content-type": "application/cloudevents+json; charset=utf-8",
    "user-agent": "nbledger-webhooks/1",
    "accept-encoding": "identity",
}


class Pace(msgspec.Struct):
    """How a webhook has done: how many deliveries are attempted next, and in which lane.

    Once it is ``halted`` no further attempt of the batch begins: what is due is read anew.
    """

    size: int = 1
    failing: bool = False
    halted: bool = False

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
        max_body_kb: int,
        now: Clock,
    ) -> None:
        self._pool = pool
        self._store = store
        self._poster = poster
        self._lanes = lanes
        self._per_webhook = per_webhook
        self._now = now
        loader = Loader(pool, envelope, now, max_body_kb=max_body_kb)
        self._ready = Gathered(loader.ready, WEBHOOKS_AT_ONCE, COMMON)
        self._bodies = Gathered(loader.bodies, BODIES_AT_ONCE, COMMON)
        self._records = Gathered(self._record, WEBHOOKS_AT_ONCE, COMMON)
        self._disabled: dict[UUID, int] = {}

    async def close(self) -> None:
        """End what is under way, once no more is asked for."""
        for each in (self._ready, self._bodies, self._records):
            await each.close()

    async def deliver(self, webhook_id: UUID, pace: Pace) -> datetime | None:
        """Send what is due to this webhook; returns when more will be, ``None`` if nothing waits.

        Raises ``DatabaseUnavailableError``: what was sent and not recorded is sent again.
        """
        while True:
            pace.halted = False
            size = pace.size
            ready = await self._ready.ask((webhook_id, size))
            if ready.subscriber is None or self._is_off(webhook_id, ready.position):
                return None
            if not ready.due:
                return ready.next_due
            made = await self._attempt_all(ready.subscriber, ready, pace)
            gone = [each for each in made if each.gone]
            if gone:
                # Before it is recorded: whoever is killed in between asks the receiver once more.
                self._disabled[webhook_id] = await self._disable(webhook_id, gone[0])
            if not made:
                continue
            at = await self._records.ask((webhook_id, made))
            if gone:
                return None
            pace.note(good=all(each.delivered for each in made))
            all_made = len(made) == len(ready.due) < size
            # The end of one makes the next of its stream due where they are ordered.
            if all_made and not ready.subscriber.ordered:
                return _earliest([ready.next_due, *(each.again_at(at) for each in made)])

    def _is_off(self, webhook_id: UUID, position: int) -> bool:
        """Whether it was disabled here, by an event that is not followed yet."""
        disabled = self._disabled.get(webhook_id)
        if disabled is not None and disabled <= position:
            del self._disabled[webhook_id]
            return False
        return disabled is not None

    async def _attempt_all(self, subscriber: Subscriber, ready: Ready, pace: Pace) -> list[Attempt]:
        own = asyncio.Semaphore(self._per_webhook)
        began = time.monotonic()

        def now() -> datetime:
            return ready.now + timedelta(seconds=time.monotonic() - began)

        async def attempt(delivery: Pending) -> Attempt | None:
            async with (
                own,
                self._lanes.place(subscriber.project_id, failing=pace.failing),
            ):
                if pace.halted:
                    return None
                made = await self._attempt(subscriber, delivery, ready.keys, now)
                if not made.delivered:
                    pace.halted = True
                return made

        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(attempt(each)) for each in ready.due]
        return [found for each in made if (found := each.result()) is not None]

    async def _attempt(
        self,
        subscriber: Subscriber,
        delivery: Pending,
        keys: Sequence[bytes],
        now: Callable[[], datetime],
    ) -> Attempt:
        body = await self._bodies.ask(delivery.position)
        # By the clock of this machine: receivers refuse what is a few minutes off.
        signed = signed_headers(delivery.event_id, clock.now(), body, keys)
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

    async def _record(self, made: Sequence[tuple[UUID, Sequence[Attempt]]]) -> list[datetime]:
        """Write down what came of these attempts; returns when it was, for each webhook."""
        async with acquire(self._pool) as connection:
            now = await self._now(connection)
            await attempts.record(connection, made, now)
        return [now] * len(made)

    async def _disable(self, webhook_id: UUID, gone: Attempt) -> int:
        """The receiver wants nothing any more; returns the position at which that is known."""
        metadata = Metadata(
            actor=WEBHOOKS,
            correlation_id=str(webhook_id),
            causation_id=str(gone.delivery.event_id),
        )
        found = await repository.update(
            *(self._store, Webhook, webhook_id),
            lambda webhook: webhook.disable("gone", at=clock.now()),
            metadata,
        )
        return 0 if found is None else found[0].position


def _earliest(times: Sequence[datetime | None]) -> datetime | None:
    return min((each for each in times if each is not None), default=None)
