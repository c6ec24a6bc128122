"""Events published again: all of a range, marked, in order, whatever ends in between."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from uuid import uuid4

import pytest
from support.read_models import running, until_reached
from support.replays import assert_first_in_order, fill, messages_in, positions
from support.services import kafka_name
from support.topics import told_by

from nbledger.embedded.tansu import start_tansu
from nbledger_infrastructure.kafka import clients, relay
from nbledger_infrastructure.kafka.replays import carrying_out, manager
from nbledger_infrastructure.postgres import event_replays
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_replays import EventReplay, ReplayRange
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Http, Kafka, Postgres, Settings

TENANT, PROJECT = uuid4(), uuid4()


def configured(dsn: str, bootstrap: str, prefix: str) -> Settings:
    return Settings(
        postgres=Postgres(dsn=dsn),
        http=Http(public_url="https://notebooks.example.com"),
        kafka=Kafka(
            bootstrap_servers=bootstrap,
            topic_prefix=prefix,
            idempotent=kafka_name() == "apache",
            partitions=3,
        ),
    )


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str) -> Settings:
    return configured(database_dsn, kafka, topic_prefix)


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying_out, "BATCH_EVENTS", 50)


async def asked(pool: Pool, wanted: ReplayRange, *, by_command: bool = True) -> EventReplay:
    async with acquire(pool) as connection:
        return await event_replays.create(
            connection, wanted, requested_by="test", by_command=by_command
        )


async def until_ended(pool: Pool, replay: EventReplay) -> EventReplay:
    """The replay once it is over; nobody is told when."""
    async with asyncio.timeout(30):
        while True:
            async with acquire(pool) as connection:
                found = await event_replays.reread(connection, replay.replay_id)
            assert found is not None
            if found.ended:
                return found
            await asyncio.sleep(0.02)


@pytest.mark.guarantee("G57")
async def test_a_range_is_published_again_marked_and_not_to_the_live_topic(
    config: Settings, store: EventStore, pool: Pool
) -> None:
    await fill(store, 7, 30, tenant=TENANT, project=PROJECT)
    (erased,) = await fill(store, 1, 2, tenant=TENANT, project=PROJECT)
    await store.erase_subject(erased)
    head = await store.head_position()
    async with running(relay.run, config):
        await until_reached(pool, head, relay.NAME)
    topic = f"{config.kafka.topic_prefix}.replay.again"
    replay = await asked(pool, ReplayRange(topic=topic, first=11, last=head))
    ended = await carrying_out.carry_out(pool, config, replay, asyncio.Event())
    assert (ended.state, ended.position, ended.published) == ("completed", head, head - 10)
    found = await messages_in(config, topic, events=head - 10)
    assert sorted(positions(found)) == list(range(11, head + 1))
    assert_first_in_order(found)
    events = {each.position: each for each in await store.read_all(after_position=0, limit=1000)}
    live = await messages_in(config, clients.events_topic(config.kafka), events=head)
    assert sorted(positions(live)) == list(range(1, head + 1))
    as_live = {told_by(each)["id"]: each for each in live}
    for message in found:
        told = told_by(message)
        before = as_live[told["id"]]
        assert told.pop("replay") == "true"
        assert told == told_by(before)
        assert (message.key, message.partition) == (before.key, before.partition)
        data = events[int(told["position"])].data
        if data is None:
            assert told["erased"] == "true"
            assert b'"replay":"true"' in (message.value or b"")
        else:
            assert message.value == data
    assert "replay" not in {name for each in live for name in told_by(each)}


async def test_of_one_tenant_or_project(config: Settings, store: EventStore, pool: Pool) -> None:
    other = uuid4()
    await fill(store, 2, 60, tenant=uuid4(), project=PROJECT)
    await fill(store, 2, 60, tenant=TENANT, project=PROJECT)
    await fill(store, 1, 60, tenant=TENANT, project=other)
    await fill(store, 1, 60, tenant=uuid4(), project=other)
    for project, expected in ((other, (241, 300)), (None, (121, 300))):
        topic = f"{config.kafka.topic_prefix}.replay.{project}"
        wanted = ReplayRange(topic=topic, first=1, last=360, tenant_id=TENANT, project_id=project)
        ended = await carrying_out.carry_out(
            pool, config, await asked(pool, wanted), asyncio.Event()
        )
        assert ended.state == "completed"
        first, last = expected
        found = positions(await messages_in(config, topic, events=last - first + 1))
        assert sorted(found) == list(range(first, last + 1))


async def test_the_relay_carries_out_what_is_asked_for_by_api(
    config: Settings, store: EventStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "LOOK_SECONDS", 0.05)
    await fill(store, 2, 100, tenant=TENANT, project=PROJECT)
    prefix = f"{config.kafka.topic_prefix}.replay."
    wanted = [ReplayRange(topic=f"{prefix}{each}", first=1, last=200) for each in ("a", "b")]
    by_command = await asked(pool, wanted[0])
    async with running(manager.run, config):
        replays = [await asked(pool, each, by_command=False) for each in wanted]
        # No broker takes a name like this: the others go on.
        refused = await asked(
            pool, ReplayRange(topic="x" * 300, first=1, last=200), by_command=False
        )
        ended = [await until_ended(pool, each) for each in (*replays, refused)]
    states = [each.state for each in ended]
    assert states[:2] == ["completed", "completed"]
    assert ended[0].published == ended[1].published == 200
    if kafka_name() == "apache":
        assert states[2] == "failed"
        assert ended[2].problem
    async with acquire(pool) as connection:
        untouched = await event_replays.reread(connection, by_command.replay_id)
    assert untouched == by_command


async def test_one_that_is_cancelled_ends(config: Settings, store: EventStore, pool: Pool) -> None:
    await fill(store, 4, 100, tenant=TENANT, project=PROJECT)
    topic = f"{config.kafka.topic_prefix}.replay.cancelled"
    replay = await asked(pool, ReplayRange(topic=topic, first=1, last=400))
    cancelling: list[asyncio.Task[None]] = []

    async def cancel() -> None:
        async with acquire(pool) as connection:
            await event_replays.end(connection, replay.replay_id, "cancelled")

    def progress(told: EventReplay) -> None:
        if told.position >= 50 and not cancelling:
            cancelling.append(asyncio.create_task(cancel()))

    ended = await carrying_out.carry_out(pool, config, replay, asyncio.Event(), progress)
    assert ended.state == "cancelled"
    assert 50 <= ended.position < 400


@pytest.mark.guarantee("G57")
async def test_those_that_end_anywhere_leave_no_gap(
    config: Settings, store: EventStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying_out, "BATCH_EVENTS", 7)
    await fill(store, 10, 40, tenant=TENANT, project=PROJECT)
    topic = f"{config.kafka.topic_prefix}.replay.killed"
    replay = await asked(pool, ReplayRange(topic=topic, first=1, last=400))
    dice, lifetime, lives, most = random.Random(3), 0.2, 0, 0
    while not replay.ended:
        before, lives = replay.position, lives + 1
        task = asyncio.create_task(carrying_out.carry_out(pool, config, replay, asyncio.Event()))
        await asyncio.wait({task}, timeout=dice.uniform(0.0, lifetime))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with acquire(pool) as connection:
            found = await event_replays.reread(connection, replay.replay_id)
        assert found is not None
        replay, most = found, max(most, found.position - before)
        if replay.position == before:
            lifetime *= 1.5  # a slow broker, or a busy machine
    messages_found = await messages_in(config, topic, events=400)
    assert set(positions(messages_found)) == set(range(1, 401))
    assert_first_in_order(messages_found)
    # What comes twice is what was on its way when it was ended.
    assert len(messages_found) - 400 <= lives * 7


@pytest.mark.guarantee("G57")
async def test_a_broker_that_forgets_in_between_gets_everything(
    database_dsn: str, topic_prefix: str, store: EventStore, pool: Pool, tmp_path: Path
) -> None:
    broker = await start_tansu(tmp_path / "tansu.log")
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    config = configured(database_dsn, broker.bootstrap_servers, topic_prefix)
    await fill(store, 4, 200, tenant=TENANT, project=PROJECT)
    topic = f"{topic_prefix}.replay.lost"
    replay = await asked(pool, ReplayRange(topic=topic, first=1, last=800))
    half = asyncio.Event()
    try:
        stop = asyncio.Event()

        def progress(told: EventReplay) -> None:
            if told.position >= 400 and not half.is_set():
                half.set()
                stop.set()

        left = await carrying_out.carry_out(pool, config, replay, stop, progress)
        assert 400 <= left.position < 800
        broker.process.kill()
        await broker.stop()
        going_on = asyncio.create_task(carrying_out.carry_out(pool, config, left, asyncio.Event()))
        broker = await start_tansu(tmp_path / "tansu.log", port=port)
        async with asyncio.timeout(60):
            ended = await going_on
        assert (ended.state, ended.restarts, ended.published) == ("completed", 1, 800)
        assert sorted(positions(await messages_in(config, topic, events=800))) == list(
            range(1, 801)
        )
    finally:
        await broker.stop()
