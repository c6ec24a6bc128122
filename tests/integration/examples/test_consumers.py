"""The consumers of examples/consumers, side by side on one topic with all that can be on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from support.api import Api
from support.consumers import NAMES, Consumer, Load, consumer, environment, missing
from support.event_store import METADATA
from support.read_models import running
from support.services import kafka_name
from support.shared_api import ServerThread, api, api_server

from nbledger_infrastructure.kafka import clients, relay
from nbledger_infrastructure.postgres.event_store import NewEvent, RecordedEvent, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Kafka, Settings

__all__ = ["api", "api_server"]

pytestmark = pytest.mark.timeout(240)

SECONDS = 90.0
PARTITIONS = 4


@pytest.mark.parametrize("name", NAMES)
def test_consumer_can_run_here(name: str) -> None:
    if reason := missing(name):
        pytest.skip(f"the consumer {name} is tested nowhere here: {reason}")


class Topic:
    """The topic of events, as somebody who writes what does not belong there."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._name = clients.events_topic(kafka)

    async def send(self, *messages: tuple[bytes | None, Sequence[tuple[str, bytes]]]) -> None:
        """Publish values with their headers, all with one key."""
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka.bootstrap_servers)
        await producer.start()
        try:
            for value, headers in messages:
                await producer.send(self._name, value, key=b"k", headers=list(headers))
            await producer.flush()
        finally:
            await producer.stop()

    async def replay(self) -> int:
        """Publish all events that are there once more, marked; returns how many."""
        found: list[tuple[bytes | None, Sequence[tuple[str, bytes]]]] = []
        async with clients.consumer(self._kafka, client_id="test") as reading:
            partitions = [TopicPartition(self._name, each) for each in range(PARTITIONS)]
            reading.assign(partitions)
            await reading.seek_to_beginning(*partitions)
            for partition, end in (await reading.end_offsets(partitions)).items():
                while await reading.position(partition) < end:
                    batch = await reading.getmany(partition, timeout_ms=500)
                    found += [
                        (each.value, [*each.headers, ("ce_replay", b"true")])
                        for each in batch.get(partition, [])
                        if "ce_position" in dict(each.headers)
                    ]
        await self.send(*found)
        return len(found)


class Stage:
    def __init__(
        self, api: Api, settings: Settings, project: str, consumers: list[Consumer]
    ) -> None:
        self.api = api
        self.settings = settings
        self.project = project
        self.consumers = consumers
        self._load = Load(api.store, project, uuid4().int & 0xFFFFFFFF)

    def stream(self, stream_id: UUID, subject_id: UUID) -> Stream:
        return Stream(stream_id, subject_id, self.api.tenant_id, self.api.project_id)

    async def append(self, stream: Stream, version: int, type_: str, data: Any) -> int:
        """Append one event as it is, of whatever type; returns its position."""
        encoded = json.dumps(data).encode()
        event = NewEvent(event_id=uuid4(), type=type_, data=encoded, occurred_at=datetime.now(UTC))
        appended = await self.api.store.append(
            stream, [event], expected_version=version, metadata=METADATA
        )
        return appended.position

    async def tell(self, count: int) -> int:
        """Let so many things happen, here and in other projects."""
        for _ in range(count):
            await self._load.step()
        return self._load.position

    async def events(self) -> list[RecordedEvent]:
        return list(await self.api.store.read_all(after_position=0, limit=1_000_000))

    async def until(self, position: int) -> None:
        for each in self.consumers:
            await each.until(position, seconds=SECONDS)


@asynccontextmanager
async def stage(api: Api, settings: Settings, kafka: Kafka, folder: Path) -> AsyncIterator[Stage]:
    client = await api.client(Role.AUDITOR)
    token = client.headers["Authorization"].removeprefix("Bearer ")
    project = str(client.base_url).rstrip("/")
    # What is missing on the topic is missing for good: the feed does not help out.
    patient = {"PATIENCE_SECONDS": "300", "IDLE_SECONDS": "300"}
    async with AsyncExitStack() as stack:
        consumers = [
            await stack.enter_async_context(
                consumer(name, folder, environment(kafka, project, token) | patient)
            )
            for name in NAMES
            if not missing(name)
        ]
        settings = msgspec.structs.replace(settings, kafka=kafka)
        yield Stage(api, settings, project, consumers)


@pytest.mark.guarantee("G59")
async def test_all_that_can_be_on_the_topic_has_its_effect_once(
    api: Api, api_server: ServerThread, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    broker = Kafka(
        bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        idempotent=kafka_name() == "apache",
        partitions=PARTITIONS,
    )
    topic = Topic(broker)
    async with stage(api, api_server.settings, broker, tmp_path) as scene:
        # The history that a new consumer takes from the store, and what comes while it runs.
        await scene.tell(100)
        notebook, run, deleted, gone = uuid4(), uuid4(), uuid4(), uuid4()
        async with running(relay.run, scene.settings):
            for each in scene.consumers:
                each.start()
            await scene.until(await scene.tell(100))
        # While nothing is published: what is odd, and what is deleted and erased.
        cell = {"duration": 1.5}
        asked = {"kernelType": "python3", "options": {"priority": "Normal"}}
        of_run = scene.stream(run, notebook)
        await scene.append(of_run, 0, "execution.requested.v1", asked)
        large = {"duration": 2.25, "outputs": ["x" * 600_000]}
        await scene.append(of_run, 1, "execution.cell-executed.v1", large)
        await scene.append(of_run, 2, "execution.imagined.v1", {})
        await scene.append(of_run, 3, "execution.completed.v9", {})
        poison = [
            await scene.append(of_run, 4, "execution.cell-executed.v1", {"no": 1}),
            await scene.append(of_run, 5, "execution.requested.v1", asked),
        ]
        await scene.append(of_run, 6, "execution.cell-executed.v1", cell)
        await scene.append(of_run, 7, "execution.completed.v1", {})
        of_gone = scene.stream(gone, deleted)
        await scene.append(of_gone, 0, "execution.requested.v1", asked)
        await scene.append(of_gone, 1, "execution.cell-executed.v1", cell)
        await scene.append(scene.stream(deleted, deleted), 0, "notebook.deleted.v1", {})
        await api.store.erase_subject(deleted)
        head = await scene.tell(1)
        await topic.send((b"hello", []))
        async with running(relay.run, scene.settings):
            await scene.until(head)
            assert await topic.replay() > 100
            head = await scene.tell(20)
            await scene.until(head)
        # Its position is the next one, and its value no JSON.
        forged = {"position": str(head + 1), "source": f"{api.base}/notebook/{notebook}"}
        forged |= {"type": "nbledger.execution.completed.v1", "subject": str(run), "time": "?"}
        await topic.send((b"{", [(f"ce_{name}", text.encode()) for name, text in forged.items()]))
        await scene.until(head + 1)
        events = await scene.events()
        for each in scene.consumers:
            assert await asyncio.to_thread(each.stop) == [0], each.printed()
            dead = await each.dead_letters()
            assert "JSON" in dead[f"position {head + 1}"], each.name
            foreign = [place for place in dead if place.startswith(f"{topic_prefix}.events ")]
            assert len(foreign) == 1, dead
            dead_others = [*foreign, f"position {head + 1}"]
            wrong = await each.wrong(events, scene.project, poison=poison, foreign=dead_others)
            assert not any(wrong), (each.name, wrong, each.printed())
            # It was all on the topic: the store was asked at the beginning, and for large data.
            assert each.printed().count("at work after position") == 1, each.printed()
