"""Whoever sends to webhooks is killed amid deliveries, and receivers answer at random.

Each event that is wanted has to come, in order where that is asked for, and nothing to whoever
wants nothing any more.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from standardwebhooks.webhooks import Webhook as StandardWebhook
from support.campaigns import Tally, conclude, times
from support.managers import Scene, scene
from support.receivers import Got, Receiver, receiver
from support.webhooks import LOOPBACK, Project

from nbledger_domain.webhook import RETRY_SECONDS
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.settings import Webhooks

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=120, ci=300, full=900)),
    pytest.mark.skipif(sys.platform != "linux", reason="stops processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

KILLS = times(small=4, ci=15, full=50)
TAKEOVER_SECONDS = 10.0
STREAMS = 6
GONE = times(small=2, ci=5, full=12)
NOTEBOOK, LIBRARY = "notebook.renamed.v1", "library.uploaded.v1"


class Request(NamedTuple):
    """What came, when by the clock of this machine, and what was answered."""

    at: datetime
    got: Got
    answer: int | bytes | None

    @property
    def event_id(self) -> UUID:
        return UUID(self.got.headers["webhook-id"])


class Receiving:
    """Answers at random: 200 most of the time, or 500, nothing, a part, or an end."""

    def __init__(self, there: Receiver, tally: Tally) -> None:
        self._random = tally.random
        self.requests: defaultdict[str, list[Request]] = defaultdict(list)
        self.last: dict[str, int] = {}
        """Of those that want nothing any more after so many requests."""
        there.decide = self._decide

    def _decide(self, got: Got) -> int | bytes | None:
        before = self.requests[got.path]
        answer: int | bytes | None = 200
        if len(before) + 1 >= self.last.get(got.path, sys.maxsize):
            answer = 410
        elif self._random.random() < 0.3:
            answer = self._random.choice([500, 302, None, b"", b"HTTP/1.1 20"])
        before.append(Request(datetime.now(UTC), got, answer))
        return answer


async def _step(stage: Scene) -> None:
    """Let the time pass until cancelled, so fast that what has failed is soon due again."""
    now = datetime.now(UTC)
    while True:
        now += timedelta(seconds=max(RETRY_SECONDS) / 8)
        await stage.set_clock(now)
        await asyncio.sleep(0.25)


class Appended(NamedTuple):
    """An event as the store has it."""

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    type: str
    recorded_at: datetime


@pytest.mark.guarantee("G60")
async def test_whoever_sends_is_killed_amid_deliveries(
    database_dsn: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("senders to webhooks killed", TAKEOVER_SECONDS, record_property)
    settings = Webhooks(allowed_networks=LOOPBACK, timeout_seconds=0.5)
    async with receiver() as there, scene(database_dsn, webhooks=settings) as stage:
        receiving = Receiving(there, tally)
        project = Project(stage.pool, stage.store)
        made: dict[str, tuple[UUID, str]] = {}
        for path in ("/plain", "/ordered", "/toggled"):
            made[path] = await project.hook(
                there.url + path, "notebook", ordered=path == "/ordered"
            )
        for number in range(GONE):
            # Ordered, and of one stream: one attempt at a time.
            path = f"/gone/{number}"
            made[path] = await project.hook(there.url + path, "library", ordered=True)
            receiving.last[f"/hook{path}"] = tally.random.randint(1, 5 * KILLS)
        clock = asyncio.create_task(_step(stage))
        processes = [await stage.start(), await stage.start()]
        appending = asyncio.create_task(_append(project, tally))
        toggled = made["/toggled"][0]
        for number in range(KILLS):
            await asyncio.sleep(tally.random.uniform(0.2, 1.0))
            await stage.kill(processes, tally, "webhooks")
            await project.enable(toggled, there.url + "/toggled", enabled=number % 2 == 1)
        appending.cancel()
        await asyncio.gather(appending, return_exceptions=True)
        await stage.until(
            "(SELECT position FROM projection_checkpoint WHERE name = 'webhooks')"
            " >= (SELECT max(position) FROM event)"
        )
        await stage.until(
            "NOT EXISTS (SELECT FROM webhook_delivery JOIN webhook_subscription USING (webhook_id)"
            " WHERE state = 'pending' AND enabled)"
        )
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        async with acquire(stage.pool) as connection:
            rows = await connection.fetch(
                "SELECT position, event_id, stream_id, version, type, recorded_at FROM event"
                " ORDER BY position"
            )
        events = [Appended(*row) for row in rows]
        for path, (webhook_id, secret) in made.items():
            requests = receiving.requests[f"/hook{path}"]
            _check(_wanted(events, webhook_id, path), requests, secret, path, tally)
            if path == "/ordered":
                _check_order(events, requests, tally)
            if path.startswith("/gone"):
                _check_gone(events, webhook_id, requests, path, tally)
        told = [each for some in receiving.requests.values() for each in some]
        taken = sum(each.answer == 200 for each in told)
        tally.what += f"; {len(events)} events, {len(told)} requests, {taken} taken"
    conclude(KILLS, tally)


async def _append(project: Project, tally: Tally) -> None:
    """Append events to some streams until cancelled."""
    notebooks, library = [uuid4() for _ in range(STREAMS)], uuid4()
    while True:
        await project.event(tally.random.choice(notebooks), type_=NOTEBOOK)
        await project.event(library, type_=LIBRARY, data=b"{}")
        await asyncio.sleep(0.2)


def _wanted(events: list[Appended], webhook_id: UUID, path: str) -> list[UUID]:
    """The events that the webhook gets: those of its type while it is enabled."""
    type_, on, found = LIBRARY if path.startswith("/gone") else NOTEBOOK, False, []
    for each in events:
        if each.stream_id == webhook_id:
            on = each.type in {"webhook.created.v1", "webhook.enabled.v1"} or (
                on and each.type != "webhook.disabled.v1"
            )
        elif on and each.type == type_:
            found.append(each.event_id)
    return found


def _check(
    wanted: list[UUID], requests: list[Request], secret: str, path: str, tally: Tally
) -> None:
    """Every wanted event is taken, and nothing else is sent; it is the same each time."""
    bodies: dict[UUID, bytes] = {}
    for each in requests:
        body = bodies.setdefault(each.event_id, each.got.body)
        tally.expect(body == each.got.body, f"{path}: {each.event_id} has changed")
        tally.expect(each.got.event["id"] == str(each.event_id), f"{path}: another id")
        # What was sent a while ago is good all the same: only its time is not.
        signed = StandardWebhook(secret).sign(
            str(each.event_id),
            datetime.fromtimestamp(int(each.got.headers["webhook-timestamp"]), UTC),
            each.got.body.decode(),
        )
        tally.expect(each.got.headers["webhook-signature"] == signed, f"{path}: not signed")
    tally.expect(bodies.keys() <= set(wanted), f"{path}: unwanted {bodies.keys() - set(wanted)}")
    if not path.startswith("/gone"):
        taken = {each.event_id for each in requests if each.answer == 200}
        missing = set(wanted) - taken
        tally.expect(not missing, f"{path}: {len(missing)} of {len(wanted)} never came")


def _check_order(events: list[Appended], requests: list[Request], tally: Tally) -> None:
    """Nothing is sent before what comes before it in its stream was taken."""
    by_id = {each.event_id: each for each in events}
    taken: dict[UUID, int] = defaultdict(int)
    for each in requests:
        event = by_id[each.event_id]
        done = taken[event.stream_id]
        tally.expect(event.version <= done + 1, f"version {event.version} after {done}")
        if each.answer == 200:
            taken[event.stream_id] = max(done, event.version)


def _check_gone(
    events: list[Appended], webhook_id: UUID, requests: list[Request], path: str, tally: Tally
) -> None:
    """Once its 410 is known nothing is sent; it may be asked once more for each kill before."""
    gone = [each for each in requests if each.answer == 410]
    tally.expect(bool(gone), f"{path}: was never told")
    disabled = [
        each
        for each in events
        if (each.stream_id, each.type) == (webhook_id, "webhook.disabled.v1")
    ]
    tally.expect(len(disabled) == 1, f"{path}: {len(disabled)} times disabled")
    late = [each for each in requests if each.at > disabled[0].recorded_at] if disabled else []
    tally.expect(not late, f"{path}: {len(late)} requests later")
    tally.expect(len(gone) <= KILLS + 1, f"{path}: {len(gone)} times gone")
