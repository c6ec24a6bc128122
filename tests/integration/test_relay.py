"""The relay against a real broker: everything arrives, in order, whatever ends in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
from aiokafka import ConsumerRecord
from support.event_store import METADATA, connect, open_pool, open_store
from support.read_models import running, until_reached
from support.stories import Story, begin, record, request, step

from nbledger_domain.cells import Cell
from nbledger_domain.notebook import NotebookChanges
from nbledger_infrastructure import kafka as brokers
from nbledger_infrastructure import settings
from nbledger_infrastructure.cloudevents import attributes
from nbledger_infrastructure.database import Pool
from nbledger_infrastructure.embedded.tansu import start_tansu
from nbledger_infrastructure.event_store import EventStore, NewEvent, RecordedEvent
from nbledger_infrastructure.identifiers import new_id
from nbledger_projections import relay
from nbledger_projections.positions import checkpoint

pytestmark = pytest.mark.kafka

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"


def make_settings(dsn: str, bootstrap: str, prefix: str) -> settings.Settings:
    return settings.Settings(
        postgres=settings.Postgres(dsn=dsn),
        kafka=settings.Kafka(
            bootstrap_servers=bootstrap,
            topic_prefix=prefix,
            idempotent=os.environ.get("NBLEDGER_TEST_KAFKA") == "apache",
            partitions=3,
        ),
    )


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str) -> settings.Settings:
    return make_settings(database_dsn, kafka, topic_prefix)


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    async with open_pool(database_dsn) as opened:
        yield opened


@pytest.fixture
async def store(pool: Pool) -> AsyncIterator[EventStore]:
    async with open_store(pool) as opened:
        yield opened


@asynccontextmanager
async def reading(config: settings.Settings, *topics: str) -> AsyncIterator[list[Record]]:
    """Collects whatever is, or comes to be, in the topics, of which there may be none yet."""
    found: list[Record] = []
    await brokers.ensure_topics(config.kafka, config.worker.kernels)

    async def read() -> None:
        async for message in client:
            found.append(message)  # noqa: PERF401 (it is read while it grows)

    async with brokers.consumer(config.kafka, *topics, client_id="test") as client:
        task = asyncio.create_task(read())
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def told_by(message: Record) -> dict[str, str]:
    return attributes(list(message.headers))


async def until(found: Sequence[Record], count: int, *, seconds: float = 30.0) -> None:
    """Wait until ``count`` different messages have come."""
    async with asyncio.timeout(seconds):
        # The consumer tells nobody when it has read something.
        while len({told_by(each)["id"] for each in found}) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def assert_all_in_order(found: Sequence[Record], events: Sequence[RecordedEvent]) -> None:
    """Every event has come, and those of a stream in order, repetitions left out."""
    first: dict[str, dict[str, str]] = {}
    for message in found:
        told = told_by(message)
        first.setdefault(told["id"], told)
    assert sorted(int(told["position"]) for told in first.values()) == [
        event.position for event in events
    ]
    versions: dict[str, list[int]] = {}
    for told in first.values():
        versions.setdefault(told["subject"], []).append(int(told["streamversion"]))
    for stream, seen in versions.items():
        assert seen == sorted(seen), stream


async def tell(store: EventStore, dice: random.Random, count: int) -> list[Story]:
    stories = [begin(dice) for _ in range(max(1, count // 20))]
    await record(store, *stories)
    for _ in range(count):
        story = dice.choice(stories)
        step(story, dice)
        await record(store, story)
    return stories


async def test_every_event_is_published_once_as_a_cloudevent(
    config: settings.Settings, store: EventStore, pool: Pool
) -> None:
    await tell(store, random.Random(1), 100)
    events = await store.read_all(after_position=0, limit=1000)
    async with reading(config, brokers.events_topic(config.kafka)) as found:
        async with running(relay.run, config):
            await until(found, len(events))
            more = await tell(store, random.Random(2), 5)
            events = await store.read_all(after_position=0, limit=1000)
            await until(found, len(events))
            await until_reached(pool, len(events), relay.NAME)
        assert more
        assert_all_in_order(found, events)
        assert len(found) == len(events)
        by_id = {str(event.event_id): event for event in events}
        for message in found:
            told = told_by(message)
            event = by_id[told["id"]]
            assert message.key == str(event.stream_id).encode()
            assert message.value == event.data
            assert dict(message.headers)["content-type"] == b"application/json"
            assert told["specversion"] == "1.0"
            assert told["type"] == f"nbledger.{event.type}"
            assert told["subject"] == str(event.stream_id)
            assert told["actor"] == "tester"
            assert told["tenantid"] == str(event.tenant_id)


async def test_commands_follow_from_what_is_asked(
    config: settings.Settings, store: EventStore
) -> None:
    dice = random.Random(3)
    story = begin(dice)
    await record(store, story)
    kernel = story.notebook.kernel_type
    topics = [brokers.command_topic(config.kafka, kernel), brokers.control_topic(config.kafka)]
    lost, cancelled = request(story, dice), request(story, dice)
    story.executions += [lost, cancelled]
    await record(store, story)
    epoch = lost.claim("worker-1", at=story.at)
    lost.lose_attempt(epoch, "The worker was lost.", at=story.at)
    cancelled.claim("worker-1", at=story.at)
    cancelled.request_cancel(requested_by="user123", at=story.at)
    cancelled.lose_attempt(1, "The worker was lost.", at=story.at)  # ends it: nothing to run
    await record(store, story)
    async with reading(config, *topics) as found, running(relay.run, config):
        await until(found, 4)
        told = {
            (
                message.topic,
                told_by(message)["type"],
                told_by(message)["subject"],
            )
            for message in found
        }
        assert told == {
            (topics[0], "nbledger.command.execute.v1", str(lost.id)),
            (topics[0], "nbledger.command.execute.v1", str(cancelled.id)),
            (topics[1], "nbledger.command.cancel.v1", str(cancelled.id)),
        }
        executes = [message for message in found if str(lost.id) in str(message.headers)]
        assert len(executes) == 2, "one for the request, one for the restart"
        assert msgspec.json.decode(executes[0].value or b"") == {
            "executionId": str(lost.id),
            "notebookId": str(story.notebook.id),
            "tenantId": str(story.stream.tenant_id),
            "projectId": str(story.stream.project_id),
        }


async def test_large_and_erased_data_is_not_carried(
    config: settings.Settings, store: EventStore, pool: Pool
) -> None:
    dice = random.Random(4)
    large, erased = begin(dice), begin(dice)
    await record(store, large, erased)
    cells = [Cell(cell_id="cell-001", cell_type="code", source="x" * relay.MAX_DATA_BYTES)]
    large.notebook.update(NotebookChanges(cells=cells), at=large.at)
    await record(store, large)
    await store.erase_subject(erased.notebook.id)
    events = await store.read_all(after_position=0, limit=100)
    async with reading(config, brokers.events_topic(config.kafka)) as found:
        async with running(relay.run, config):
            await until(found, len(events))
        by_position = {int(told_by(each)["position"]): each for each in found}
        for event in events:
            message = by_position[event.position]
            told = told_by(message)
            if event.subject_id == erased.notebook.id:
                assert message.value is None
                assert told["erased"] == "true"
            elif event.type == "notebook.cells-updated.v1":
                assert message.value is None
                assert told["dataref"] == (
                    f"/api/{event.tenant_id}/{event.project_id}/notebook/{event.subject_id}"
                    f"/history?after={event.position - 1}&limit=1"
                )
            else:
                assert message.value == event.data
                assert not {"erased", "dataref"} & told.keys()


async def test_a_relay_stands_by_until_it_is_needed(
    config: settings.Settings, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "STANDBY_SECONDS", 0.05)
    async with reading(config, brokers.events_topic(config.kafka)) as found:
        at_work = asyncio.Event()
        first = asyncio.create_task(relay.run(config, asyncio.Event(), at_work.set))
        await at_work.wait()
        async with running(relay.run, config):
            await tell(store, random.Random(5), 20)
            head = await store.head_position()
            await until(found, head)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert len(found) == head, "the one that stands by publishes nothing"
            await tell(store, random.Random(6), 20)
            await until(found, await store.head_position())
        assert_all_in_order(found, await store.read_all(after_position=0, limit=1000))


async def test_relays_that_end_anywhere_leave_no_gap(
    config: settings.Settings, store: EventStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH_EVENTS", 7)
    dice = random.Random(7)
    await tell(store, dice, 300)
    head = await store.head_position()
    async with reading(config, brokers.events_topic(config.kafka)) as found:
        while await checkpoint(pool, relay.NAME) < head:
            task = asyncio.create_task(relay.run(config, asyncio.Event(), lambda: None))
            await asyncio.wait({task}, timeout=dice.uniform(0.02, 0.4))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await until(found, head)
        assert_all_in_order(found, await store.read_all(after_position=0, limit=10_000))


async def test_a_broker_that_is_started_anew_and_has_forgotten_everything(
    database_dsn: str, topic_prefix: str, store: EventStore, pool: Pool, tmp_path: Path
) -> None:
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix)
    topic = brokers.events_topic(config.kafka)
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    dice = random.Random(8)
    try:
        async with running(relay.run, config):
            await tell(store, dice, 50)
            before = await store.head_position()
            await until_reached(pool, before, relay.NAME)
            broker.process.kill()
            await broker.stop()
            await tell(store, dice, 50)
            assert await checkpoint(pool, relay.NAME) == before, "nobody has taken them"
            broker = await start_tansu(tmp_path / "tansu.log", port=port)
            head = await store.head_position()
            await until_reached(pool, head, relay.NAME, seconds=60)
            async with reading(config, topic) as found:
                await until(found, head - before)
                assert_all_in_order(found, await store.read_all(after_position=before, limit=1000))
    finally:
        await broker.stop()


async def test_a_broker_that_hangs_for_a_while(  # noqa: PLR0917 (fixtures)
    database_dsn: str,
    topic_prefix: str,
    store: EventStore,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The producer is given up and made anew; what both have sent comes without a gap, in order."""
    monkeypatch.setattr(relay, "ACK_TIMEOUT", 0.5)
    monkeypatch.setattr(brokers, "STOP_TIMEOUT", 0.2)
    monkeypatch.setattr(brokers, "CONNECT_TIMEOUT", 1.0)
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix)
    dice = random.Random(9)
    try:
        async with reading(config, brokers.events_topic(config.kafka)) as found:
            async with running(relay.run, config):
                for _ in range(2):
                    await tell(store, dice, 60)
                    broker.process.send_signal(signal.SIGSTOP)
                    await tell(store, dice, 60)
                    await asyncio.sleep(1.0)
                    assert await checkpoint(pool, relay.NAME) < await store.head_position()
                    broker.process.send_signal(signal.SIGCONT)
                head = await store.head_position()
                await until_reached(pool, head, relay.NAME, seconds=60)
                await until(found, head)
            assert_all_in_order(found, await store.read_all(after_position=0, limit=10_000))
        assert not [
            task for task in asyncio.all_tasks() if "Sender" in repr(task) and not task.done()
        ], "a producer that was given up sends nothing more"
    finally:
        broker.process.send_signal(signal.SIGCONT)
        await broker.stop()


async def test_the_relay_outlives_the_loss_of_its_connections(
    config: settings.Settings, store: EventStore, database_dsn: str, pool: Pool
) -> None:
    async with running(relay.run, config):
        await tell(store, random.Random(10), 10)
        await until_reached(pool, await store.head_position(), relay.NAME)
        async with connect(database_dsn) as connection:
            assert await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'nbledger-relay' AND datname = current_database()"
            )
        await tell(store, random.Random(11), 10)
        await until_reached(pool, await store.head_position(), relay.NAME)


async def test_an_unknown_event_is_published_like_any_other(
    config: settings.Settings, store: EventStore
) -> None:
    story = begin(random.Random(12))
    await store.append(
        story.stream,
        [NewEvent(new_id(), "notebook.painted.v1", b'{"colour": "red"}', story.at)],
        expected_version=0,
        metadata=METADATA,
    )
    async with reading(config, brokers.events_topic(config.kafka)) as found:
        async with running(relay.run, config):
            await until(found, 1)
        assert found[0].value == b'{"colour": "red"}'
        assert uuid.UUID((found[0].key or b"").decode()) == story.stream.stream_id
