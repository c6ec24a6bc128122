"""Many runs that wait: their commands are published once, and looking for them stays cheap."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from structlog.testing import capture_logs
from support.event_store import open_pool, open_store
from support.executions import make_settings
from support.read_models import running, until_reached
from support.services import kafka_name
from support.stories import begin, record, request
from support.waiting_runs import fill

from nbledger_application import queue
from nbledger_application.claims import Histories
from nbledger_domain.execution import PRIORITIES
from nbledger_infrastructure import clock
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.kafka import clients, relay
from nbledger_infrastructure.kafka.event_topic import BrokerForgotError
from nbledger_infrastructure.kafka.topic_ids import topic_ids
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.settings import Settings
from nbledger_workers.intake import consumers, taking
from nbledger_workers.intake.capacity import Slots
from nbledger_workers.intake.doorbell import Doorbell
from nbledger_workers.intake.turns import Turns
from nbledger_workers.sweeping import command_offsets, lost_commands, sweeper
from nbledger_workers.sweeping.command_offsets import CommandOffsets

RUNS = 45


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> Settings:
    made = make_settings(database_dsn, kafka, topic_prefix, tmp_path)
    recovery = msgspec.structs.replace(made.recovery, sweep_seconds=0.05)
    return msgspec.structs.replace(made, recovery=recovery)


class Looks:
    """Counts how often a sweeper has asked the broker for its topics."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._more = asyncio.Event()
        self._count = 0
        monkeypatch.setattr(lost_commands, "topic_ids", self._ask)

    async def _ask(self, client: Any) -> Mapping[str, UUID]:
        found = await topic_ids(client)
        self._count += 1
        self._more.set()
        return found

    async def more(self, count: int) -> None:
        """Wait for so many further looks to begin."""
        async with asyncio.timeout(30):
            for wanted in range(self._count + 1, self._count + 1 + count):
                while self._count < wanted:
                    self._more.clear()
                    await self._more.wait()


async def until_published(pool: Pool, told: Callable[[list[Any]], bool]) -> None:
    """Wait until the rows of the topics are so."""
    async with asyncio.timeout(30), acquire(pool) as connection:
        while not told(await connection.fetch("SELECT * FROM command_topic")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def all_done(rows: list[Any]) -> bool:
    return bool(rows) and all(row["done"] for row in rows)


async def commands(config: Settings, topics: Sequence[str]) -> Counter[UUID]:
    """How often the broker has a command of each run."""
    seen: Counter[UUID] = Counter()
    async with clients.consumer(config.kafka, *topics, client_id="test") as client:
        while records := await client.getmany(timeout_ms=1500):
            for record_ in (each for records_ in records.values() for each in records_):
                told = msgspec.json.decode(record_.value or b"")
                seen[UUID(told["executionId"])] += 1
    return seen


async def forget(config: Settings, *topics: str) -> None:
    """Let the broker forget topics, as one does that was started anew."""
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka.bootstrap_servers)
    async with asyncio.timeout(30):
        await admin.start()
        try:
            await admin.delete_topics(list(topics))
            while set(topics) & set(await admin.list_topics()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        finally:
            await admin.close()


@asynccontextmanager
async def sweeping(config: Settings) -> AsyncIterator[None]:
    async with running(sweeper.run, config):
        yield


@pytest.mark.guarantee("G14")
@pytest.mark.timeout(180)
async def test_a_command_is_published_again_only_where_the_broker_has_forgotten(
    config: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_commands, "PAGE", 10)
    looks = Looks(monkeypatch)
    dice = random.Random(1)
    story = begin(dice)
    while story.notebook.kernel_type != "python3":
        story = begin(dice)
    async with open_store(pool) as store:
        async with sweeping(config):
            await until_published(pool, all_done)
            story.executions += [request(story, dice) for _ in range(RUNS)]
            waits = {execution.id for execution in story.executions}
            await record(store, story)
            async with running(relay.run, config):
                await until_reached(pool, await store.head_position(), relay.NAME)
            await looks.more(4)
        # Nor is it by a sweeper that knows nothing of the one before.
        async with sweeping(config):
            await looks.more(4)
        topics = [clients.command_topic(config.kafka, "python3", each) for each in PRIORITIES]
        assert await commands(config, topics) == dict.fromkeys(waits, 1)

        await forget(config, *topics[1:])
        kept = await commands(config, topics[:1])
        assert 0 < kept.total() < RUNS
        # One that ends in the middle is followed by one that goes on from there.
        async with sweeping(config):
            await until_published(
                pool, lambda rows: any(row["requested_at"].year > 1970 for row in rows)
            )
        async with sweeping(config):
            await until_published(pool, all_done)
            await looks.more(4)
        assert await commands(config, topics) == dict.fromkeys(waits, 1)


async def log_ends(config: Settings, topic: str) -> dict[TopicPartition, int]:
    """Where each partition of a topic ends."""
    async with (
        asyncio.timeout(30),
        clients.consumer(config.kafka, topic, client_id="test") as client,
    ):
        return dict(await client.end_offsets(list(client.assignment())))


async def cut(config: Settings, topic: str, ends: Mapping[TopicPartition, int]) -> None:
    """Delete records of a topic, which keeps its id; Tansu does not have this."""
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka.bootstrap_servers)
    async with asyncio.timeout(30):
        await admin.start()
        try:
            await admin.delete_records({at: RecordsToDelete(end) for at, end in ends.items()})
        finally:
            await admin.close()


@pytest.mark.timeout(180)
@pytest.mark.skipif(kafka_name() != "apache", reason="Tansu deletes no records")
async def test_a_log_that_was_cut_is_found_by_its_offsets(
    config: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_offsets, "ASK_SECONDS", 0.0)
    looks = Looks(monkeypatch)
    dice = random.Random(1)
    story = begin(dice)
    while story.notebook.kernel_type != "python3":
        story = begin(dice)
    topics = [clients.command_topic(config.kafka, "python3", each) for each in PRIORITIES]
    async with open_store(pool) as store, sweeping(config):
        await until_published(pool, all_done)
        story.executions += [request(story, dice) for _ in range(RUNS)]
        waits = {execution.id for execution in story.executions}
        await record(store, story)
        async with running(relay.run, config):
            await until_reached(pool, await store.head_position(), relay.NAME)
        await looks.more(4)
        assert await commands(config, topics) == dict.fromkeys(waits, 1)
        for topic in topics:
            await cut(config, topic, await log_ends(config, topic))
        await looks.more(4)
        await until_published(pool, all_done)
        await looks.more(4)
        assert await commands(config, topics) == dict.fromkeys(waits, 1)


@pytest.mark.timeout(180)
@pytest.mark.skipif(kafka_name() != "apache", reason="Tansu deletes no records")
async def test_what_has_been_taken_is_no_loss_when_the_broker_deletes_it(
    config: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does after the retention; what was published later is there, and waits."""
    monkeypatch.setattr(command_offsets, "ASK_SECONDS", 0.0)
    looks = Looks(monkeypatch)
    dice = random.Random(1)
    story = begin(dice)
    while story.notebook.kernel_type != "python3":
        story = begin(dice)
    topics = [clients.command_topic(config.kafka, "python3", each) for each in PRIORITIES]
    with capture_logs() as told:
        async with open_store(pool) as store, sweeping(config):
            await until_published(pool, all_done)
            async with running(relay.run, config):
                story.executions += [request(story, dice) for _ in range(RUNS)]
                taken = list(story.executions)
                await record(store, story)
                await until_reached(pool, await store.head_position(), relay.NAME)
                for execution in taken:
                    execution.claim("worker-1", at=story.at)
                await record(store, story)
                await looks.more(2)
                ends = {topic: await log_ends(config, topic) for topic in topics}
                story.executions += [request(story, dice) for _ in range(RUNS)]
                waits = {execution.id for execution in story.executions[RUNS:]}
                await record(store, story)
                await until_reached(pool, await store.head_position(), relay.NAME)
            await looks.more(4)
            for topic in topics:
                await cut(config, topic, ends[topic])
            await looks.more(4)
            assert await commands(config, topics) == dict.fromkeys(waits, 1)
    assert not [entry for entry in told if entry["event"] == "topic of commands has lost messages"]


@pytest.mark.skipif(kafka_name() != "apache", reason="Tansu answers with the last message")
async def test_what_a_log_has_lost_is_told_by_its_first_message(
    config: Settings, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}.commands.python3.normal"
    await clients.ensure_topics(config.kafka, ["python3"])
    async with (
        clients.producer(config.kafka, client_id="test") as producer,
        clients.consumer(config.kafka, client_id="test") as client,
    ):
        seen = clock.now()
        assert await command_offsets.lost_before(client, topic, {0: seen}) == seen, "it is empty"
        published = seen - timedelta(hours=1)
        for at in (published, seen):
            await producer.send_and_wait(
                topic, b"{}", partition=0, timestamp_ms=round(at.timestamp() * 1000)
            )
        first = await command_offsets.lost_before(client, topic, {0: seen})
        assert abs(first - published) < timedelta(milliseconds=1)
        before = published - timedelta(hours=1)
        assert await command_offsets.lost_before(client, topic, {0: before}) == before
        assert await command_offsets.lost_before(client, topic, {0: before, 1: seen}) == seen
        assert await command_offsets.lost_before(client, topic, {}) >= seen


def test_a_log_that_begins_later_or_ends_earlier_has_lost_messages() -> None:
    one, other, new = UUID(int=1), UUID(int=2), UUID(int=3)
    offsets = CommandOffsets()
    before = {(one, 0): (0, 9), (one, 1): (3, 3), (other, 0): (0, 5)}
    assert not offsets.shortened(before), "nothing is known yet"
    offsets.saw(before)
    seen = clock.now()
    assert not offsets.shortened({**before, (one, 0): (0, 12), (new, 0): (7, 7)})
    later = offsets.shortened({**before, (one, 0): (1, 9)})
    assert list(later) == [one]
    assert later[one][0] <= seen
    assert offsets.shortened({**before, (one, 0): (1, 9), (one, 1): (1, 1)}) == {one: {}}
    assert offsets.shortened({**before, (other, 0): (0, 4)}) == {other: {}}
    assert offsets.shortened({**before, (other, 0): (0, 4)}) == {other: {}}, "until it is seen to"
    # What came later had been published later.
    for end in range(10, 2000):
        offsets.saw({**before, (one, 0): (0, end)})
    assert len(offsets._ends[one, 0]) <= command_offsets._ENDS_KEPT
    assert offsets.shortened({(one, 0): (9, 1999)})[one][0] >= later[one][0]
    assert offsets.shortened({(one, 0): (12, 1999)})[one][0] > seen
    assert offsets.shortened({(one, 0): (5000, 6000)})[one][0] > seen


@pytest.mark.timeout(180)
async def test_who_stops_while_it_looks_gives_up_the_lock_and_who_publishes_keeps_it(
    config: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_commands, "LOCK_SECONDS", 1)
    hanging, going_on = asyncio.Event(), asyncio.Event()

    async def hang(client: Any) -> Mapping[str, UUID]:
        if not hanging.is_set():
            hanging.set()
            await going_on.wait()
        return await topic_ids(client)

    monkeypatch.setattr(lost_commands, "topic_ids", hang)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        first = lost_commands.LostCommands(config, pool)
        group.create_task(first.look_until(stop))
        await hanging.wait()
        # Another one gets to look, as soon as the session of the first has been ended.
        async with open_pool(config.postgres.dsn) as others:
            group.create_task(lost_commands.LostCommands(config, others).look_until(stop))
            await until_published(others, all_done)
            going_on.set()
            stop.set()


async def test_a_worker_does_not_take_a_batch_of_commands_for_a_loss(
    config: Settings, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}.commands.python3.normal"
    here = TopicPartition(topic, 0)
    await clients.ensure_topics(config.kafka, ["python3"])
    async with (
        clients.producer(config.kafka, client_id="test") as producer,
        clients.consumer(config.kafka, client_id="test") as client,
    ):
        batch = producer.create_batch()
        for number in range(5):
            batch.append(timestamp=None, key=None, value=str(number).encode())
        batch.close()
        await (await producer.send_batch(batch, topic, partition=0))
        client.assign([here])
        async with asyncio.timeout(30):
            while await client.position(here) < 5:
                await client.getone()
        probe = consumers._Probe()
        await probe.check(client)
        probe._due = 0.0
        await probe.check(client)

        await forget(config, topic)
        await clients.ensure_topics(config.kafka, ["python3"])
        probe._due = 0.0
        with pytest.raises(BrokerForgotError):
            await probe.check(client)


@pytest.mark.guarantee("G14")
async def test_looking_touches_little_however_many_runs_wait(
    database_dsn: str, pool: Pool, record_property: Callable[[str, object], None]
) -> None:
    """At 100,000 waiting runs and 50 that a worker has: pages of 8 kB, and the time seen."""
    await fill(pool, 100_000, kernel_type="scala", running=50)
    classes, long_ago, nobody = list(PRIORITIES), datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)
    looks: dict[str, tuple[str, tuple[Any, ...]]] = {
        "taken without a lease": (queue._UNLEASED, (20.0, queue.PAGE)),
        "waiting for too long": (queue._LATE, (7200.0, queue.PAGE)),
        "waiting for longer than kept": (queue._WAITS_SINCE, ("scala", "Low", long_ago)),
        "a page of lost commands": (
            queue._AFTER,
            ("scala", "Low", long_ago, nobody, 1_000_000, queue.PAGE),
        ),
        "a worker of other kernels": (queue._NEXT, (["python3", "r"], classes, None, None, [])),
        "a worker of these kernels": (queue._NEXT, (["scala", "r"], classes, None, None, [])),
    }
    async with acquire(pool) as connection:
        # As it is in production: nobody has analyzed yet, or somebody has.
        for analyzed in (False, True):
            if analyzed:
                await connection.execute("ANALYZE event; ANALYZE execution_queue")
            for name, (query, arguments) in looks.items():
                told = await connection.fetchval(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *arguments
                )
                (plan,) = msgspec.json.decode(told)
                top = plan["Plan"]
                pages = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
                record_property(f"{name}, analyzed {analyzed}", (pages, plan["Execution Time"]))
                assert pages < 1_000, (name, pages)


@pytest.mark.guarantee("G14")
async def test_a_run_whose_command_is_lost_is_found_by_a_worker_with_room(pool: Pool) -> None:
    """Though nothing rings for it."""
    dice = random.Random(3)
    story = begin(dice)
    story.executions.append(request(story, dice))
    found: asyncio.Future[Command] = asyncio.get_running_loop().create_future()

    class Takes:
        async def read(self, command: Command) -> Histories | None:
            raise AssertionError(command)

        async def take(self, command: Command, histories: Histories | None) -> bool:
            assert histories is None
            found.set_result(command)
            await asyncio.Event().wait()
            return True

    looking = asyncio.create_task(
        taking.take_turns(
            pool,
            [story.notebook.kernel_type],
            Takes(),
            slots=Slots(1),
            turns=Turns(),
            doorbell=Doorbell(),
        )
    )
    try:
        async with open_store(pool) as store:
            await record(store, story)
        async with asyncio.timeout(30):
            assert (await found).execution_id == story.executions[0].id
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
