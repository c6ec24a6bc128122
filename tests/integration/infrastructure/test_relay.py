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

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from support.event_store import METADATA, connect
from support.read_models import running, until_reached
from support.services import kafka_name
from support.stories import Story, begin, record, request, step
from support.topics import Record, reading, told_by, until

from nbledger.embedded.broker import EmbeddedBroker
from nbledger.embedded.tansu import start_tansu
from nbledger_domain.cells import Cell
from nbledger_domain.notebook import NotebookChanges
from nbledger_infrastructure import settings
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.kafka import clients, messages, relay
from nbledger_infrastructure.postgres import leading
from nbledger_infrastructure.postgres.checkpoints import checkpoint
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, NewEvent, RecordedEvent


def make_settings(
    dsn: str, bootstrap: str, prefix: str, *, idempotent: bool = False
) -> settings.Settings:
    return settings.Settings(
        postgres=settings.Postgres(dsn=dsn),
        http=settings.Http(public_url="https://notebooks.example.com/"),
        kafka=settings.Kafka(
            bootstrap_servers=bootstrap,
            topic_prefix=prefix,
            idempotent=idempotent,
            partitions=3,
        ),
    )


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str) -> settings.Settings:
    # Tansu knows no idempotent producers.
    return make_settings(database_dsn, kafka, topic_prefix, idempotent=kafka_name() == "apache")


async def until_all(found: Sequence[Record], config: settings.Settings, topic: str) -> None:
    """Wait until everything has come that ``topic`` has now."""
    async with clients.consumer(config.kafka, topic, client_id="test-ends") as client:
        partitions = client.partitions_for_topic(topic) or ()
        ends = await client.end_offsets([TopicPartition(topic, each) for each in partitions])
    missing = {each.partition: end for each, end in ends.items() if end > 0}
    async with asyncio.timeout(30):
        while missing:
            for each in found:
                if each.offset + 1 >= missing.get(each.partition, each.offset + 2):
                    del missing[each.partition]
            # The consumer tells nobody when it has read something.
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


@pytest.mark.guarantee("G24")
async def test_every_event_is_published_once_as_a_cloudevent(
    config: settings.Settings, store: EventStore, pool: Pool
) -> None:
    await tell(store, random.Random(1), 100)
    events = await store.read_all(after_position=0, limit=1000)
    async with reading(config, clients.events_topic(config.kafka)) as found:
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
            schema = f"https://notebooks.example.com/schema/events/{event.type}.json"
            assert told["dataschema"] == schema
            assert told["subject"] == str(event.stream_id)
            # The name of a token, as events of before principals hold it, is not published.
            assert (told["authtype"], "authid" in told) == ("api_key", False)
            assert "tester" not in repr(told)
            assert told["tenantid"] == str(event.tenant_id)


async def test_a_kernel_type_that_the_broker_takes_no_topics_for_holds_up_nobody(
    config: settings.Settings, store: EventStore
) -> None:
    # Apache Kafka refuses names that differ in a dot and an underscore only, and long ones.
    dice = random.Random(5)
    stories = [begin(dice) for _ in range(4)]
    odd = ["odd.type", "odd_type", "x" * 250, "python3"]
    for story, kernel_type in zip(stories, odd, strict=True):
        story.notebook.kernel_type = kernel_type
        story.executions.append(request(story, dice))
        await record(store, story)
    events = await store.read_all(after_position=0, limit=1000)
    last = stories[-1].executions[0]
    command = clients.command_topic(config.kafka, "python3", last.options.priority)
    async with (
        reading(config, clients.events_topic(config.kafka)) as found,
        reading(config, command) as commands,
        running(relay.run, config),
    ):
        await until(found, len(events))
        await until(commands, 1)
    assert told_by(commands[0])["subject"] == str(last.id)


async def test_commands_follow_from_what_is_asked(
    config: settings.Settings, store: EventStore
) -> None:
    dice = random.Random(3)
    story = begin(dice)
    await record(store, story)
    kernel = story.notebook.kernel_type
    lost, cancelled = request(story, dice), request(story, dice)
    topics = [
        clients.command_topic(config.kafka, kernel, lost.options.priority),
        clients.command_topic(config.kafka, kernel, cancelled.options.priority),
        clients.control_topic(config.kafka),
    ]
    assert topics[0] != topics[1]
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
            (topics[1], "nbledger.command.execute.v1", str(cancelled.id)),
            (topics[2], "nbledger.command.cancel.v1", str(cancelled.id)),
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
    cells = [Cell(cell_id="cell-001", cell_type="code", source="x" * messages.MAX_DATA_BYTES)]
    large.notebook.update(NotebookChanges(cells=cells), at=large.at)
    await record(store, large)
    await store.erase_subject(erased.notebook.id)
    events = await store.read_all(after_position=0, limit=100)
    async with reading(config, clients.events_topic(config.kafka)) as found:
        async with running(relay.run, config):
            await until(found, len(events))
        by_position = {int(told_by(each)["position"]): each for each in found}
        for event in events:
            message = by_position[event.position]
            told = told_by(message)
            if event.subject_id == erased.notebook.id:
                assert told["erased"] == "true"
                assert msgspec.json.decode(message.value or b"") == told
            elif event.type == "notebook.cells-updated.v1":
                assert msgspec.json.decode(message.value or b"") == told
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
    monkeypatch.setattr(leading, "STANDBY_SECONDS", 0.05)
    async with reading(config, clients.events_topic(config.kafka)) as found:
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


@pytest.mark.guarantee("G24")
async def test_relays_that_end_anywhere_leave_no_gap(
    config: settings.Settings, store: EventStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH_EVENTS", 7)
    dice = random.Random(7)
    await tell(store, dice, 300)
    head = await store.head_position()
    lifetime = 0.2
    async with reading(config, clients.events_topic(config.kafka)) as found:
        while (before := await checkpoint(pool, relay.NAME)) < head:
            task = asyncio.create_task(relay.run(config, asyncio.Event(), lambda: None))
            await asyncio.wait({task}, timeout=dice.uniform(0.0, lifetime))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if await checkpoint(pool, relay.NAME) == before:
                lifetime *= 1.5  # a slow broker, or a busy machine
        await until(found, head)
        assert_all_in_order(found, await store.read_all(after_position=0, limit=10_000))


@pytest.mark.guarantee("G24")
async def test_a_broker_that_is_started_anew_and_has_forgotten_everything(
    database_dsn: str, topic_prefix: str, store: EventStore, pool: Pool, tmp_path: Path
) -> None:
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix)
    topic = clients.events_topic(config.kafka)
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
                # What it had before is told again: somebody may not have had it.
                await until(found, head)
                assert_all_in_order(found, await store.read_all(after_position=0, limit=1000))
    finally:
        await broker.stop()


@pytest.mark.guarantee("G25")
async def test_a_subscriber_who_holds_an_offset_goes_on_when_the_broker_forgets(  # noqa: PLR0917
    database_dsn: str,
    topic_prefix: str,
    store: EventStore,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "REPEATED_EVENTS", 20)
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix)
    kafka = msgspec.structs.replace(config.kafka, keep_offsets=True)
    config = msgspec.structs.replace(config, kafka=kafka)
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    dice = random.Random(10)
    try:
        # Without a group: what it is to read next nobody else knows.
        async with reading(config, clients.events_topic(config.kafka)) as found:
            for anew in range(3):
                async with running(relay.run, config):
                    await tell(store, dice, 40)
                    head = await store.head_position()
                    await until_reached(pool, head, relay.NAME)
                    await until(found, head, seconds=60)
                    if anew:
                        broker.process.kill()
                    await broker.stop()
                    broker = await start_tansu(tmp_path / "tansu.log", port=port)
                    await tell(store, dice, 40)
                    head = await store.head_position()
                    await until_reached(pool, head, relay.NAME, seconds=60)
                    await until(found, head, seconds=60)
            events = await store.read_all(after_position=0, limit=1000)
            assert_all_in_order(found, events)
            offsets: dict[int, list[int]] = {}
            for message in found:
                offsets.setdefault(message.partition, []).append(message.offset)
            assert all(seen == sorted(set(seen)) for seen in offsets.values())
            assert len(found) > len(events), "the last events were told again"
    finally:
        await broker.stop()


async def test_the_last_events_are_told_again_once_where_offsets_begin_anew(  # noqa: PLR0917
    database_dsn: str,
    topic_prefix: str,
    store: EventStore,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "REPEATED_EVENTS", 5)
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix)
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    dice = random.Random(11)
    try:
        async with running(relay.run, config):
            await tell(store, dice, 40)
            head = await store.head_position()
            await until_reached(pool, head, relay.NAME)
        await broker.stop()
        broker = await start_tansu(tmp_path / "tansu.log", port=port)
        # Relays that follow each other, the first of which finds the topic made anew.
        async with reading(config, clients.events_topic(config.kafka)) as found:
            for _ in range(3):
                async with running(relay.run, config):
                    await tell(store, dice, 1)
                    await until_reached(pool, await store.head_position(), relay.NAME)
                await until(found, 5 + await store.head_position() - head)
            news = await store.head_position() - head
            assert len(found) == 5 + news
    finally:
        await broker.stop()


async def test_the_last_events_are_told_again_though_nothing_new_happens(
    database_dsn: str, topic_prefix: str, store: EventStore, pool: Pool, tmp_path: Path
) -> None:
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix)
    kafka = msgspec.structs.replace(config.kafka, keep_offsets=True)
    config = msgspec.structs.replace(config, kafka=kafka)
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    try:
        async with running(relay.run, config):
            await tell(store, random.Random(12), 40)
            head = await store.head_position()
            await until_reached(pool, head, relay.NAME)
            await broker.stop()
            broker = await start_tansu(tmp_path / "tansu.log", port=port)
            # Nobody has read anything yet, and there is nothing more to publish.
            async with reading(config, clients.events_topic(config.kafka)) as found:
                await until(found, head)
                assert_all_in_order(found, await store.read_all(after_position=0, limit=1000))
    finally:
        await broker.stop()


async def test_the_last_events_are_told_again_when_a_log_ends_below_what_was_noted(
    config: settings.Settings, store: EventStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "REPEATED_EVENTS", 5)
    dice = random.Random(13)
    async with running(relay.run, config):
        await tell(store, dice, 20)
        head = await store.head_position()
        await until_reached(pool, head, relay.NAME)
    # As after a replica that was behind has become the leader.
    async with pool.acquire() as connection:
        await connection.execute(
            "UPDATE event_topic SET next_offsets = array_fill(1000::bigint, ARRAY[3])"
        )
    async with reading(config, clients.events_topic(config.kafka)) as found:
        async with running(relay.run, config):
            await tell(store, dice, 20)
            await until_reached(pool, await store.head_position(), relay.NAME)
        # What is new comes before the repetition, too.
        await until_all(found, config, clients.events_topic(config.kafka))
        last = [told_by(each)["id"] for each in found if int(told_by(each)["position"]) == head]
        assert len(last) == 2, "the last event of before is told again, once"


async def hang(broker: EmbeddedBroker) -> None:
    broker.process.send_signal(signal.SIGSTOP)
    stopped = os.WSTOPPED | os.WNOWAIT
    await asyncio.to_thread(os.waitid, os.P_PID, broker.process.pid, stopped)


async def test_a_broker_that_hangs_for_a_while(  # noqa: PLR0917 (fixtures)
    database_dsn: str,
    topic_prefix: str,
    store: EventStore,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The producer is given up and made anew; what both have sent comes without a gap, in order."""
    given_up = asyncio.Event()

    @asynccontextmanager
    async def watched(kafka: settings.Kafka, *, client_id: str) -> AsyncIterator[AIOKafkaProducer]:
        try:
            async with clients.producer(kafka, client_id=client_id) as client:
                yield client
        finally:
            given_up.set()

    monkeypatch.setattr(relay, "producer", watched)
    monkeypatch.setattr(relay, "ACK_TIMEOUT", 0.5)
    monkeypatch.setattr(clients, "STOP_TIMEOUT", 0.2)
    monkeypatch.setattr(clients, "CONNECT_TIMEOUT", 1.0)
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix)
    dice = random.Random(9)
    try:
        async with reading(config, clients.events_topic(config.kafka)) as found:
            async with running(relay.run, config):
                for _ in range(2):
                    await until_reached(pool, await store.head_position(), relay.NAME, seconds=60)
                    given_up.clear()
                    await tell(store, dice, 60)
                    await hang(broker)
                    await tell(store, dice, 60)
                    async with asyncio.timeout(30):
                        await given_up.wait()
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


@asynccontextmanager
async def falling_silent(bootstrap: str, answers: int) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A broker that gives each connection so many answers and then none; set once it owes one.

    At the end whoever came must have left.
    """
    host, _, port = bootstrap.rpartition(":")
    silent = asyncio.Event()
    visits: list[asyncio.Task[None]] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered, asked = await asyncio.open_connection(host, int(port))

        async def answer() -> None:
            for _ in range(answers):
                size = await answered.readexactly(4)
                writer.write(size + await answered.readexactly(int.from_bytes(size, "big")))
            await answered.readexactly(4)
            silent.set()

        answering = asyncio.create_task(answer())
        try:
            while data := await reader.read(65_536):
                asked.write(data)
        except ConnectionError:
            pass  # one way to leave
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            asked.close()
            writer.close()

    server = await asyncio.start_server(
        lambda *streams: visits.append(asyncio.create_task(visit(*streams))), "127.0.0.1", 0
    )
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", silent
        async with asyncio.timeout(10):
            await asyncio.gather(*visits)
        assert visits
    finally:
        server.close()
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


@pytest.mark.parametrize("given_up", ["cancelled", "timed out"])
@pytest.mark.parametrize("answers", [0, 1])
@pytest.mark.parametrize("kind", ["producer", "consumer", "topics"])
async def test_a_client_given_up_while_it_connects_leaves_nothing(
    kafka: str, kind: str, answers: int, given_up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is left open makes the test fail when it is collected."""
    monkeypatch.setattr(clients, "CONNECT_TIMEOUT", 30.0 if given_up == "cancelled" else 0.2)

    async def start(config: settings.Kafka) -> None:
        if kind == "topics":
            await clients.ensure_topics(config, [])
        elif kind == "producer":
            async with clients.producer(config, client_id="test"):
                pass
        else:
            async with clients.consumer(config, "any", client_id="test"):
                pass

    before = asyncio.all_tasks()
    async with falling_silent(kafka, answers) as (bootstrap, silent):
        starting = asyncio.create_task(start(settings.Kafka(bootstrap_servers=bootstrap)))
        if given_up == "cancelled":
            await silent.wait()
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
        else:
            with pytest.raises(clients.BrokerUnavailableError):
                await starting
    assert asyncio.all_tasks() == before


async def test_clients_end_while_the_broker_hangs(
    topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "STOP_TIMEOUT", 0.5)
    broker = await start_tansu(tmp_path / "tansu.log")
    kafka = make_settings("", broker.bootstrap_servers, topic_prefix).kafka
    topic = clients.events_topic(kafka)
    try:
        await clients.ensure_topics(kafka, [])
        before = asyncio.all_tasks()
        async with (
            asyncio.timeout(30),
            clients.producer(kafka, client_id="test") as client,
            clients.consumer(kafka, topic, client_id="test"),
            clients.consumer(kafka, topic, client_id="test", group_id=topic_prefix) as member,
        ):
            await client.send_and_wait(topic, b"sent")
            assert (await member.getone()).value == b"sent"
            await hang(broker)
            unsent = [await client.send(topic, b"never sent", partition=0) for _ in range(3)]
        assert asyncio.all_tasks() == before
        assert [type(each.exception()) for each in unsent] == [KafkaError] * 3
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
    async with reading(config, clients.events_topic(config.kafka)) as found:
        async with running(relay.run, config):
            await until(found, 1)
        assert found[0].value == b'{"colour": "red"}'
        assert uuid.UUID((found[0].key or b"").decode()) == story.stream.stream_id
