"""Events are sent to webhooks: signed, again until they are taken, and to nobody inside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook as StandardWebhook
from standardwebhooks.webhooks import WebhookVerificationError
from support.receivers import Got, Receiver, receiver
from support.schedules import CALLER
from support.webhooks import LOOPBACK, Hooks, hooks

from nbledger_application.preconditions import UNCONDITIONAL
from nbledger_application.webhooks.subscribing import (
    delete_webhook,
    redeliver_events,
    redeliver_range,
    rotate_secret,
)
from nbledger_domain.webhook import RETRY_SECONDS
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Postgres, Settings, Webhooks
from nbledger_workers.sweeping import process_managers


@pytest.fixture
async def scene(pool: Pool, store: EventStore) -> AsyncIterator[Hooks]:
    async with hooks(pool, store) as made:
        yield made


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def verified(got: Got, secret: str) -> dict[str, Any]:
    """What the library of the standard reads, if the signature is right."""
    found: dict[str, Any] = StandardWebhook(secret).verify(got.body, dict(got.headers))
    return found


@pytest.mark.guarantee("G54")
async def test_an_event_is_sent_signed_as_the_standard_says(scene: Hooks, there: Receiver) -> None:
    webhook_id, secret = await scene.hook(there.url)
    await scene.work()
    stream_id = uuid4()
    event_id = await scene.event(stream_id)
    await scene.work()
    (got,) = there.got
    event = verified(got, secret)
    assert got.headers["webhook-id"] == event["id"] == str(event_id)
    assert got.headers["content-type"].startswith("application/cloudevents+json")
    assert event["specversion"] == "1.0"
    assert event["type"] == "nbledger.notebook.renamed.v1"
    assert event["subject"] == str(stream_id)
    assert event["data"] == {"name": "N"}
    with pytest.raises(WebhookVerificationError):
        verified(got._replace(body=got.body + b" "), secret)
    assert await scene.deliveries(webhook_id) == [("delivered", 1)]

    await scene.work()
    assert len(there.got) == 1


async def test_after_a_rotation_both_secrets_sign_for_a_time(scene: Hooks, there: Receiver) -> None:
    webhook_id, old = await scene.hook(there.url)
    new = await rotate_secret(*(scene.pool, scene.store, CALLER, webhook_id), overlap_seconds=3600)
    await scene.work()
    await scene.event()
    await scene.work()
    (got,) = there.got
    assert verified(got, old) == verified(got, new)
    scene.now.step(7200)
    await scene.event()
    await scene.work()
    got = there.got[1]
    verified(got, new)
    with pytest.raises(WebhookVerificationError):
        verified(got, old)


async def test_a_webhook_gets_what_it_asked_for_and_nothing_else(
    scene: Hooks, there: Receiver
) -> None:
    before = await scene.event()
    await scene.hook(there.url + "/versioned", "notebook.renamed.v1")
    await scene.hook(there.url + "/name", "notebook.described", "dataset")
    await scene.hook(there.url + "/tagged", "execution", tags=("nightly",))
    await scene.work()
    renamed = await scene.event()
    described = await scene.event(type_="notebook.described.v1", data=b'{"description":""}')
    await scene.event(project_id=uuid4())
    tagged, other = uuid4(), uuid4()
    request = "execution.requested.v1"
    asked = await scene.event(tagged, type_=request, data=b'{"tags":["nightly","b"]}')
    await scene.event(other, type_=request, data=b'{"tags":["b"]}')
    await scene.event(type_=request, data=b"{}")
    ended = await scene.event(tagged, type_="execution.completed.v1", data=b"{}")
    await scene.event(other, type_="execution.completed.v1", data=b"{}")
    await scene.work()
    came = {(got.path.rpartition("/")[2], UUID(got.event["id"])) for got in there.got}
    assert came == {
        ("versioned", renamed),
        ("name", described),
        ("tagged", asked),
        ("tagged", ended),
    }
    assert before not in {each[1] for each in came}


@pytest.mark.guarantee("G54")
async def test_what_fails_is_sent_again_by_the_schedule_until_it_is_dead(
    scene: Hooks, there: Receiver
) -> None:
    webhook_id, secret = await scene.hook(there.url)
    there.always = 503
    await scene.event()
    await scene.work()
    for number, seconds in enumerate(RETRY_SECONDS, start=1):
        assert await scene.deliveries(webhook_id) == [("pending", number)]
        scene.now.step(seconds - 1)
        await scene.work()
        assert len(there.got) == number
        scene.now.step(seconds * 0.1 + 1.5)
        await scene.work()
        assert len(there.got) == number + 1
    assert await scene.deliveries(webhook_id) == [("dead", 10)]
    assert await scene.errors(webhook_id) == ["refused"] * 10
    assert len({got.headers["webhook-id"] for got in there.got}) == 1
    assert verified(there.got[-1], secret) == there.got[0].event


async def test_gone_disables(scene: Hooks, there: Receiver) -> None:
    webhook_id, _ = await scene.hook(there.url)
    await scene.work()
    there.answers.append(410)
    await scene.event()
    await scene.work()
    await scene.event()
    await scene.work()
    assert len(there.got) == 1
    events = await scene.store.read_stream(webhook_id)
    assert [each.type for each in events] == ["webhook.created.v1", "webhook.disabled.v1"]
    assert msgspec.json.decode(events[1].data or b"") == {"reason": "gone"}
    assert events[1].metadata.actor == "webhooks"
    assert await scene.deliveries(webhook_id) == [("dead", 1)]
    await scene.enable(webhook_id, there.url)
    await scene.event()
    await scene.work()
    assert len(there.got) == 2


@pytest.mark.guarantee("G60")
async def test_nothing_more_begins_once_it_is_gone(pool: Pool, store: EventStore) -> None:
    """Of a batch, too; the rest waits until it is enabled."""
    async with receiver() as there, hooks(pool, store, concurrency_per_webhook=1) as scene:
        webhook_id, _ = await scene.hook(there.url)
        await scene.work()
        # Enough for a batch to have more behind the one that is answered so.
        there.answers.extend([200] * 4 + [410])
        for _ in range(20):
            await scene.event()
        await scene.work()
        assert len(there.got) == 5
        states = [state for state, _ in await scene.deliveries(webhook_id)]
        assert states == ["delivered"] * 4 + ["dead"] + ["pending"] * 15
        await scene.enable(webhook_id, there.url)
        await scene.work()
        assert len(there.got) == 20


async def test_what_waits_when_its_notebook_is_erased_comes_without_its_data(
    scene: Hooks, there: Receiver
) -> None:
    _, secret = await scene.hook(there.url)
    notebook = uuid4()
    there.answers.append(500)
    event_id = await scene.event(notebook, data=b'{"name":"planted"}')
    await scene.work()
    await scene.event(notebook, type_="notebook.deleted.v1", data=b"{}")
    await scene.store.erase_subject(notebook)
    scene.now.step(10)
    await scene.work()
    again = next(got for got in there.got[1:] if got.headers["webhook-id"] == str(event_id))
    assert verified(again, secret)["erased"] == "true"
    assert "data" not in again.event
    assert b"planted" not in again.body


async def test_redirects_are_not_followed_and_answers_are_bounded(
    scene: Hooks, there: Receiver
) -> None:
    webhook_id, _ = await scene.hook(there.url)
    there.answers.extend(
        [
            b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
        ]
    )
    await scene.event()
    await scene.work()
    scene.now.step(10)
    await scene.work()
    assert [got.path for got in there.got] == ["/hook", "/hook"]
    assert await scene.errors(webhook_id) == ["redirected", None]
    async with acquire(scene.pool) as connection:
        bodies = await connection.fetch("SELECT answer_body FROM webhook_attempt ORDER BY number")
    assert [len(row[0]) for row in bodies] == [0, 4096]


async def test_large_data_is_named_and_not_sent(scene: Hooks, there: Receiver) -> None:
    await scene.hook(there.url)
    await scene.event(data=msgspec.json.encode({"name": "x" * 300_000}))
    await scene.work()
    event = there.got[0].event
    assert "data" not in event
    assert event["dataref"].startswith("/api/")
    assert "erased" not in event
    assert event["dataschema"].endswith("notebook.renamed.v1.json")


async def test_an_ordered_webhook_gets_each_stream_in_order(scene: Hooks, there: Receiver) -> None:
    webhook_id, _ = await scene.hook(there.url, ordered=True)
    streams = [uuid4(), uuid4()]
    there.answers.append(500)
    sent = [await scene.event(streams[number % 2]) for number in range(8)]
    await scene.work()
    first = [UUID(got.event["id"]) for got in there.got]
    # The stream of the one that failed waits; the other goes on.
    assert first == [sent[0], *sent[1::2]]
    scene.now.step(10)
    await scene.work()
    assert [UUID(got.event["id"]) for got in there.got[5:]] == sent[0::2]
    assert [state for state, _ in await scene.deliveries(webhook_id)] == ["delivered"] * 8


async def test_events_are_sent_again_on_request(scene: Hooks, there: Receiver) -> None:
    webhook_id, _ = await scene.hook(there.url)
    await scene.work()
    sent = [await scene.event() for _ in range(3)]
    await scene.work()
    await scene.enable(webhook_id, there.url, enabled=False)
    await scene.work()
    missed = await scene.event()
    await scene.work()
    await scene.enable(webhook_id, there.url)
    await scene.work()
    assert len(there.got) == 3

    await redeliver_events(scene.store, CALLER, webhook_id, [sent[1]])
    await scene.work()
    assert [UUID(got.headers["webhook-id"]) for got in there.got[3:]] == [sent[1]]

    head = await scene.store.head_position()
    await redeliver_range(scene.store, CALLER, webhook_id, after=0, until=head)
    await scene.work()
    again = {UUID(got.headers["webhook-id"]) for got in there.got[4:]}
    assert again == {*sent, missed}
    assert sorted(state for state, _ in await scene.deliveries(webhook_id)) == ["delivered"] * 4


async def test_a_deleted_webhook_leaves_nothing(scene: Hooks, there: Receiver) -> None:
    webhook_id, _ = await scene.hook(there.url)
    there.always = 500
    await scene.event()
    await scene.work()
    await delete_webhook(*(scene.pool, scene.store, CALLER, webhook_id), precondition=UNCONDITIONAL)
    await scene.work()
    scene.now.step(100_000)
    await scene.work()
    assert len(there.got) == 1
    async with acquire(scene.pool) as connection:
        for table in ("subscription", "delivery", "attempt", "secret", "redelivery"):
            assert not await connection.fetchval(f"SELECT count(*) FROM webhook_{table}"), table


@pytest.mark.guarantee("G54")
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"],
)
async def test_nothing_inside_is_connected_to(pool: Pool, store: EventStore, host: str) -> None:
    async with receiver() as there, hooks(pool, store, allowed_networks=[]) as scene:
        plain, _ = await scene.hook(f"http://{host}:{there.port}/")
        secure, _ = await scene.hook(f"https://{host}:{there.port}/")
        await scene.event()
        await scene.work()
        assert await scene.errors(plain) == ["address_refused"]
        assert await scene.errors(secure) == ["address_refused"]
        assert there.got == []


@pytest.mark.guarantee("G54")
async def test_a_name_that_resolves_to_another_address_each_time_gets_nowhere(
    pool: Pool, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is resolved once for a connection, which goes to the address that was checked."""
    async with (
        receiver("127.0.0.2") as outside,
        receiver("127.0.0.1", port=outside.port) as inside,
        hooks(pool, store, allowed_networks=["127.0.0.2/32"]) as scene,
    ):
        looked_up: list[str] = []
        real = socket.getaddrinfo

        def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host != "rebind.example.com":
                return real(host, port, *args, **kwargs)
            looked_up.append(host)
            # Good at the first look of each time, and inside at all others.
            address = "127.0.0.2" if len(looked_up) % 2 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        outside.always = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        webhook_id, _ = await scene.hook(f"http://rebind.example.com:{outside.port}/")
        await scene.event()
        await scene.work()
        scene.now.step(10)
        await scene.work()
        assert await scene.errors(webhook_id) == ["refused", "address_refused"]
        assert (len(outside.got), len(inside.got), len(looked_up)) == (1, 0, 2)


@pytest.mark.guarantee("G54")
async def test_receivers_that_hang_hold_up_nobody_else(pool: Pool, store: EventStore) -> None:
    async with (
        receiver() as hanging,
        receiver() as there,
        # Fewer at a time than there are receivers that hang.
        hooks(pool, store, concurrency=16, timeout_seconds=60.0) as scene,
    ):
        hanging.always = None
        for number in range(10):
            await scene.hook(f"{hanging.url}/{number}")
        for number in range(20):
            await scene.hook(f"{there.url}/{number}")
        for _ in range(3):
            await scene.event()
            await scene.manager.tick()
        await hanging.until(10)
        await there.until(20)
        for _ in range(3):
            await scene.manager.tick()
        # All three events have come to each of the others, while ten hang since the first.
        async with asyncio.timeout(60):
            while len(there.got) < 60:
                await scene.manager.tick()
        assert len(hanging.got) == 10


async def test_the_erasure_of_a_subject_takes_the_answers_along(
    scene: Hooks, there: Receiver
) -> None:
    await scene.hook(there.url)
    await scene.work()
    notebook = uuid4()
    await scene.event(notebook)
    await scene.work()
    kept = "SELECT count(*) FROM webhook_attempt WHERE answer_body IS NOT NULL"
    async with acquire(scene.pool) as connection:
        assert await connection.fetchval(kept) == 1
    await scene.event(notebook, type_="notebook.deleted.v1", data=b"{}")
    await scene.store.erase_subject(notebook)
    await scene.work()
    async with acquire(scene.pool) as connection:
        assert await connection.fetchval(kept) == 0


async def test_the_role_that_runs_the_managers_sends_to_webhooks(
    database_dsn: str, pool: Pool, store: EventStore, there: Receiver
) -> None:
    settings = Settings(
        postgres=Postgres(dsn=database_dsn), webhooks=Webhooks(allowed_networks=LOOPBACK)
    )
    stop, ready = asyncio.Event(), asyncio.Event()
    async with hooks(pool, store) as scene:
        running = asyncio.create_task(process_managers.run(settings, stop, ready.set))
        async with asyncio.timeout(30):
            await ready.wait()
        _, secret = await scene.hook(there.url)
        event_id = await scene.event()
        (got,) = await there.until(1)
        stop.set()
        async with asyncio.timeout(30):
            await running
    assert verified(got, secret)["id"] == str(event_id)
