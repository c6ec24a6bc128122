"""State topics against a real broker: the newest document of each, whatever ends in between."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from support.event_store import METADATA
from support.paths import ROOT
from support.read_models import catch_up, running
from support.services import kafka_name
from support.states import (
    Record,
    assert_no_older_one_follows,
    collecting,
    everything,
    newest,
    read_model,
    told_by,
    until_published,
)
from support.stories import Story, begin, record, step

from nbledger.embedded.tansu import start_tansu
from nbledger_application import repository
from nbledger_domain.cells import Cell
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.execution import Representation
from nbledger_domain.notebook import NotebookChanges
from nbledger_domain.vocabulary.media_types import PARQUET
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.kafka import clients, messages
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Stream
from nbledger_infrastructure.settings import Kafka, Settings
from nbledger_projections import projector, rebuild
from nbledger_projections.state_topics import publisher
from nbledger_projections.state_topics.changes import Changed
from nbledger_projections.state_topics.publisher import DocumentMissingError
from nbledger_projections.state_topics.states import STATES
from nbledger_schemas import states

TENANT, PROJECT = UUID(int=7), UUID(int=8)


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> Settings:
    return make_settings(database_dsn, kafka, topic_prefix, tmp_path)


def make_settings(dsn: str, kafka: str, prefix: str, folder: Path) -> Settings:
    return msgspec.convert(
        {
            "postgres": {"dsn": dsn},
            "http": {"public_url": "https://notebooks.example.com"},
            "artifacts": {"url": folder.as_uri()},
            "kafka": {
                "bootstrap_servers": kafka,
                "topic_prefix": prefix,
                # Tansu knows no idempotent producers.
                "idempotent": kafka_name() == "apache",
                "partitions": 3,
            },
        },
        Settings,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "CHECK_SECONDS", 0.2)


@asynccontextmanager
async def projecting(config: Settings) -> AsyncIterator[None]:
    async with running(lambda *rest: projector.run(config, *rest, reactors={})):
        yield


class Work:
    """Random things that happen to notebooks, their runs and datasets, deletions among them."""

    def __init__(self, store: EventStore, seed: int) -> None:
        self._store = store
        self._dice = random.Random(seed)
        self.stories: list[Story] = []
        self._datasets: list[Dataset] = []

    async def go_on(self, steps: int) -> int:
        """So many steps; returns the position of the last event."""
        dice = self._dice
        for _ in range(steps):
            if dice.random() < 0.15:
                await self._change_datasets()
                continue
            living = [each for each in self.stories if not each.notebook.deleted]
            if len(living) < 3:
                living.append(begin(dice, tenant_id=TENANT, project_id=PROJECT))
                self.stories.append(living[-1])
            story = dice.choice(living)
            if dice.random() < 0.04:
                self._delete(story)
            else:
                step(story, dice)
            await record(self._store, story)
        return await self._store.head_position()

    def _delete(self, story: Story) -> None:
        if story.notebook.deletion_requested and not story.running:
            story.notebook.delete(at=story.at)
        elif not story.notebook.deletion_requested:
            story.notebook.request_deletion(at=story.at)

    async def _change_datasets(self) -> None:
        dice = self._dice
        if len(self._datasets) < 2:
            dataset_id = UUID(int=dice.getrandbits(128), version=4)
            self._datasets.append(Dataset.create(dataset_id, name="Orders", at=now()))
        dataset = dice.choice(self._datasets)
        if dice.random() < 0.2 and dataset.head is not None:
            dataset.delete(at=now())
            self._datasets.remove(dataset)
        else:
            dataset.add_version(
                content=Representation(PARQUET, "5f" * 32, 100),
                rows=dice.randrange(1000),
                columns=[Column("case_id", "string")],
                source=Source(kind="upload", file_name="log.csv"),
                at=now(),
            )
        stream = Stream(dataset.id, dataset.id, TENANT, PROJECT)
        await repository.save(self._store, dataset, stream, METADATA)


@pytest.mark.guarantee("G58")
async def test_the_newest_records_are_the_read_model(
    config: Settings, store: EventStore, pool: Pool
) -> None:
    work = Work(store, 1)
    await work.go_on(60)  # what was there before is published, too
    async with projecting(config), collecting(config.kafka) as seen:
        async with running(publisher.run, config):
            for _ in range(4):
                head = await work.go_on(60)
                await until_published(pool, config, head)
        found = await everything(config.kafka)
        expected = await read_model(pool, store)
        kept = newest(found)
        # Of what was deleted before the topics were made, there is no record.
        assert {key: each for key, each in expected.items() if each is not None} == {
            key: each for key, each in kept.items() if each is not None
        }
        assert kept.keys() <= expected.keys()
        assert any(each is None for each in kept.values())
        assert any(each is None for each in expected.values())
        assert len({each.topic for each in seen}) == len(STATES)
    assert_no_older_one_follows(found)
    check_headers(found, config)


async def test_the_program_of_the_docs_reads_them(
    config: Settings, store: EventStore, pool: Pool, tmp_path: Path
) -> None:
    told = (ROOT / "docs" / "events.md").read_text().partition("### State topics")[2]
    program = tmp_path / "follow.py"
    program.write_text(told.partition("```python\n")[2].partition("```")[0])
    stories = [begin(random.Random(seed), tenant_id=TENANT, project_id=PROJECT) for seed in (8, 9)]
    stories[1].notebook.request_deletion(at=stories[1].at)
    await record(store, *stories)
    await clients.ensure_topics(config.kafka, [])
    await catch_up(pool)
    async with running(publisher.run, config):
        await until_published(pool, config, await store.head_position())
        stories[0].notebook.update(NotebookChanges(name="Renamed"), at=stories[0].at)
        await record(store, stories[0])
        await catch_up(pool)
        await until_published(pool, config, await store.head_position())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, config.kafka.bootstrap_servers, config.kafka.topic_prefix),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    head = await store.head_position()
    assert printed.decode() == f"{stories[0].notebook.id} {head} Renamed\n"


def check_headers(records: Sequence[Record], config: Settings) -> None:
    validators = {name: Draft202012Validator(schema) for name, schema in states().items()}
    for each in records:
        told = told_by(each)
        kind = each.topic.removeprefix(f"{config.kafka.topic_prefix}.").removesuffix("-state")
        assert each.key is not None
        assert told["subject"] == told["partitionkey"] == each.key.decode()
        assert told["type"] == f"nbledger.{kind}-state.v1"
        assert int(told["sequence"]) == int(told["position"]) > 0
        assert told["id"] == f"{told['subject']}-{told['position']}"
        assert (told["tenantid"], told["projectid"]) == (str(TENANT), str(PROJECT))
        of = "notebook" if kind == "execution" else kind
        assert told["source"] == f"/api/{TENANT}/{PROJECT}/{of}/{told[f'{of}id']}"
        if each.value is None:
            assert told["erased"] == "true"
            assert "dataschema" not in told
        else:
            assert "erased" not in told
            schema = f"https://notebooks.example.com/schema/states/{kind}-state.v1.json"
            assert told["dataschema"] == schema
            value = msgspec.json.decode(each.value)
            faults = list(validators[f"{kind}-state.v1"].iter_errors(value))
            assert [fault.message for fault in faults] == []
            # What nobody has described, nobody can rely on.
            assert value.keys() <= states()[f"{kind}-state.v1"]["properties"].keys()


@pytest.mark.guarantee("G58")
async def test_a_deletion_leaves_nothing_but_records_without_a_value(
    config: Settings, store: EventStore, pool: Pool
) -> None:
    dice = random.Random(2)
    story = begin(dice, tenant_id=TENANT, project_id=PROJECT)
    while len(story.executions) < 3 or story.running:
        step(story, dice)
        await record(store, story)
    async with projecting(config), running(publisher.run, config):
        await until_published(pool, config, await store.head_position())
        ids = {story.notebook.id, *(each.id for each in story.executions)}
        before = newest(await everything(config.kafka))
        assert before.keys() == ids
        assert None not in before.values()
        # It is of no use to readers as soon as it is asked for.
        story.notebook.request_deletion(at=story.at)
        await until_published(pool, config, await record(store, story))
        assert newest(await everything(config.kafka)) == dict.fromkeys(ids)
        story.notebook.delete(at=story.at)
        await record(store, story)
        await store.erase_subject(story.notebook.id)
        await until_published(pool, config, await store.head_position())
    found = await everything(config.kafka)
    assert newest(found) == dict.fromkeys(ids)
    assert_no_older_one_follows(found)
    # Whoever publishes everything again has nothing to tell of it.
    anew = msgspec.structs.replace(config.kafka, topic_prefix=f"{config.kafka.topic_prefix}.anew")
    other = msgspec.structs.replace(config, kafka=anew)
    async with running(publisher.run, other):
        await until_published(pool, other, await store.head_position())
    assert await everything(anew) == []


@pytest.mark.guarantee("G58")
async def test_publishers_that_end_anywhere_leave_no_document_behind(
    config: Settings, store: EventStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOCUMENTS_AT_ONCE", "POSITIONS_AT_ONCE"):
        monkeypatch.setattr(publisher, name, 7)
    work, dice = Work(store, 3), random.Random(3)
    await work.go_on(150)
    lifetime = 0.3
    async with projecting(config):
        done = False
        while not done:
            head = await work.go_on(10) if dice.random() < 0.5 else await store.head_position()
            before = await progress(pool)
            task = asyncio.create_task(publisher.run(config, asyncio.Event(), lambda: None))
            published = asyncio.create_task(until_published(pool, config, head))
            await asyncio.wait(
                {task, published},
                timeout=dice.uniform(0.05, lifetime),
                return_when=asyncio.FIRST_COMPLETED,
            )
            done = published.done()
            for each in (task, published):
                each.cancel()
            await asyncio.gather(task, published, return_exceptions=True)
            if await progress(pool) == before:
                lifetime *= 1.5  # a slow broker, or a busy machine
    found = await everything(config.kafka)
    expected = await read_model(pool, store)
    kept = newest(found)
    assert {key: each for key, each in expected.items() if each is not None} == {
        key: each for key, each in kept.items() if each is not None
    }
    assert_no_older_one_follows(found)


async def progress(pool: Pool) -> list[tuple[object, ...]]:
    rows = await pool.fetch(
        "SELECT topic, filled_through::text FROM state_topic UNION ALL"
        " SELECT name, position::text FROM projection_checkpoint WHERE name = $1",
        publisher.NAME,
    )
    return sorted(tuple(row) for row in rows)


@pytest.mark.guarantee("G58")
async def test_a_broker_that_is_lost_and_made_anew_gets_all_documents(
    database_dsn: str, topic_prefix: str, store: EventStore, pool: Pool, tmp_path: Path
) -> None:
    broker = await start_tansu(tmp_path / "tansu.log")
    config = make_settings(database_dsn, broker.bootstrap_servers, topic_prefix, tmp_path)
    kafka = msgspec.structs.replace(config.kafka, idempotent=False)
    config = msgspec.structs.replace(config, kafka=kafka)
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    work = Work(store, 4)
    try:
        head = await work.go_on(100)
        await catch_up(pool)
        async with running(publisher.run, config):
            await until_published(pool, config, head)
            broker.process.kill()
            await broker.stop()
            head = await work.go_on(30)
            await catch_up(pool)
            broker = await start_tansu(tmp_path / "tansu.log", port=port)
            await until_published(pool, config, head)
            expected = await read_model(pool, store)
            async with asyncio.timeout(30):
                # It may take a moment until it is seen that the topics are others.
                while True:
                    await until_published(pool, config, head)
                    kept = newest(await everything(config.kafka))
                    if len(kept) >= sum(each is not None for each in expected.values()):
                        break
                    await asyncio.sleep(0.1)
        living = {key: each for key, each in expected.items() if each is not None}
        assert {key: each for key, each in kept.items() if each is not None} == living
    finally:
        await broker.stop()


async def test_a_read_model_that_is_built_anew_is_published_again(
    config: Settings, store: EventStore, pool: Pool
) -> None:
    work = Work(store, 5)
    head = await work.go_on(80)
    await catch_up(pool)
    async with running(publisher.run, config):
        await until_published(pool, config, head)
        before = await everything(config.kafka)
        await rebuild.rebuild(config, ["notebook_details"])
        async with asyncio.timeout(30):
            while True:
                await until_published(pool, config, head)
                after = await everything(config.kafka)
                if len(after) > len(before):
                    break
                await asyncio.sleep(0.05)
    again = [each for each in after if each not in before]
    assert {each.topic.rpartition(".")[2] for each in again} == {"notebook-state"}
    assert newest(after) == newest(before)
    assert_no_older_one_follows(after)


async def test_a_document_that_no_record_can_carry_is_named_by_it(
    config: Settings, store: EventStore, pool: Pool
) -> None:
    story = begin(random.Random(6), tenant_id=TENANT, project_id=PROJECT)
    cells = [Cell(cell_id="cell-001", cell_type="code", source="x" * messages.MAX_DATA_BYTES)]
    story.notebook.update(NotebookChanges(cells=cells), at=story.at)
    head = await record(store, story)
    await catch_up(pool)
    async with running(publisher.run, config):
        await until_published(pool, config, head)
    (found,) = await everything(config.kafka)
    told = told_by(found)
    assert told["dataref"] == f"/api/{TENANT}/{PROJECT}/notebook/{story.notebook.id}"
    # Without a value it would be taken as deleted.
    assert found.value is not None
    assert msgspec.json.decode(found.value) == told
    assert ("content-type", b"application/cloudevents+json; charset=utf-8") in found.headers


async def test_nothing_is_deleted_that_no_event_deletes(
    config: Settings, store: EventStore, pool: Pool
) -> None:
    # A reader that waited for an exchange of tables may see none of the new rows.
    story = begin(random.Random(7), tenant_id=TENANT, project_id=PROJECT)
    head = await record(store, story)
    await catch_up(pool)
    await pool.execute("DELETE FROM notebook_details")
    one = Changed(story.notebook.id, story.notebook.id, TENANT, PROJECT, head, now())
    nobody: Any = None
    made = publisher._Publisher(config, pool, nobody)
    with pytest.raises(DocumentMissingError):
        await made._publish_newest(nobody, STATES[0], [one])


async def test_topics_keep_the_newest_record_of_each_key(config: Settings) -> None:
    await clients.ensure_state_topics(config.kafka, [each.topic for each in STATES])
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka.bootstrap_servers)
    await admin.start()
    try:
        topics = [clients.state_topic(config.kafka, each.topic) for each in STATES]
        answers: list[Any] = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, each) for each in topics]
        )
    finally:
        await admin.close()
    found = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
    assert found.keys() == set(topics)
    for told in found.values():
        assert told["cleanup.policy"] == "compact"
        assert told["max.compaction.lag.ms"] == "86400000"
        assert told["delete.retention.ms"] == str(config.kafka.retention_hours * 3_600_000)


@pytest.mark.parametrize(
    ("state_topics", "keep_offsets", "wanted"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("on", True, True),
        ("off", False, False),
    ],
)
def test_states_are_published_where_the_settings_say_so(
    state_topics: str,
    keep_offsets: bool,  # noqa: FBT001
    wanted: bool,  # noqa: FBT001
) -> None:
    kafka = msgspec.convert({"state_topics": state_topics, "keep_offsets": keep_offsets}, Kafka)
    assert clients.publishes_states(kafka) is wanted
