"""The consumers of examples/consumers killed at random, and their broker lost and remade."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from support.api import Api
from support.campaigns import Tally, conclude, times
from support.consumers import NAMES, Consumer, Load, consumer, environment, missing
from support.read_models import running
from support.services import kafka_name
from support.shared_api import ServerThread, api, api_server

from nbledger.embedded.apache_kafka import start_apache_kafka
from nbledger.embedded.broker import EmbeddedBroker
from nbledger.embedded.tansu import start_tansu
from nbledger_infrastructure.kafka import relay
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Kafka, Settings

__all__ = ["api", "api_server"]

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=240, ci=600, full=3000)),
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

KILLS = times(small=3, ci=10, full=100)
PARITY_SECONDS = 120.0
"""From the end of the load until a consumer has dealt with all of it."""

Reports = Callable[[str, object], None]


def new_tally(what: str, tell: Reports) -> Tally:
    """A tally that names the consumers that cannot run here, and why."""
    reasons = [f"{name} left out: {reason}" for name in NAMES if (reason := missing(name))]
    return Tally("; ".join([what, *reasons]), PARITY_SECONDS, tell)


@pytest.fixture
def broker(kafka: str, topic_prefix: str) -> Kafka:
    # Tansu knows no idempotent producers.
    idempotent = kafka_name() == "apache"
    return Kafka(bootstrap_servers=kafka, topic_prefix=topic_prefix, idempotent=idempotent)


@dataclass
class Stage:
    api: Api
    settings: Settings
    project: str
    consumers: list[Consumer]

    async def assert_parity(self, tally: Tally, head: int) -> None:
        """Every consumer comes to the head, and nothing is lost or doubled."""
        began = time.monotonic()
        events = await self.api.store.read_all(after_position=0, limit=10_000_000)
        for each in self.consumers:
            await each.until(head, seconds=PARITY_SECONDS)
            tally.took(time.monotonic() - began, each.name)
            wrong = await each.wrong(events, self.project)
            tally.expect(not any(wrong), f"{each.name}: {wrong}")


@asynccontextmanager
async def stage(api: Api, settings: Settings, kafka: Kafka, folder: Path) -> AsyncIterator[Stage]:
    """Consumers of a project that are not running yet, and the relay at work."""
    client = await api.client(Role.AUDITOR)
    token = client.headers["Authorization"].removeprefix("Bearer ")
    project = str(client.base_url).rstrip("/")
    settings = msgspec.structs.replace(settings, kafka=kafka)
    async with AsyncExitStack() as stack:
        consumers = [
            await stack.enter_async_context(
                consumer(name, folder, environment(kafka, project, token))
            )
            for name in NAMES
            if not missing(name)
        ]
        await stack.enter_async_context(running(relay.run, settings))
        yield Stage(api, settings, project, consumers)


@pytest.mark.guarantee("G59")
async def test_consumers_killed_at_random_have_each_effect_once(
    api: Api,
    api_server: ServerThread,
    broker: Kafka,
    tmp_path: Path,
    record_property: Reports,
) -> None:
    tally = new_tally(f"consumers killed {KILLS} times each", record_property)
    async with stage(api, api_server.settings, broker, tmp_path) as scene:
        load, stop = Load(api.store, scene.project, tally.random.getrandbits(32)), asyncio.Event()
        appending = asyncio.create_task(load.run(stop, pause=0.01))

        async def lane(each: Consumer) -> None:
            # Two of one name, of which the one is ahead now and then the other.
            for _ in range(2):
                each.start()
            for number in range(KILLS):
                if number % 2:
                    # In the middle of its work.
                    await each.until(await each.position() + 1, seconds=PARITY_SECONDS)
                    await asyncio.sleep(tally.random.uniform(0, 0.5))
                else:
                    # At any time, before it has begun, too.
                    await asyncio.sleep(tally.random.uniform(0.2, 3.0))
                await asyncio.to_thread(each.kill, tally.random.randrange(2))
                each.start()

        try:
            await asyncio.gather(*map(lane, scene.consumers))
        finally:
            stop.set()
            await appending
        await scene.assert_parity(tally, load.position)
        for each in scene.consumers:
            ends = await asyncio.to_thread(each.stop)
            tally.expect(ends == [0, 0], f"{each.name} ended with {ends}: {each.printed()}")
    conclude(len(scene.consumers), tally)


LOSSES = times(small=2, ci=5, full=20)
"""So often the broker is lost, in about ten minutes at full size."""
BETWEEN_SECONDS = times(small=4, ci=10, full=20)


async def start_broker(folder: Path, port: int = 0) -> EmbeddedBroker:
    """A broker that knows nothing yet."""
    if kafka_name() == "tansu":  # keeps everything in memory
        return await start_tansu(folder / "tansu.log", port=port)
    await asyncio.to_thread(shutil.rmtree, folder / "kafka", ignore_errors=True)
    return await start_apache_kafka(folder / "kafka", port=port)


@pytest.mark.guarantee("G59")
async def test_consumers_come_to_parity_when_the_broker_is_lost_and_remade(
    api: Api, api_server: ServerThread, tmp_path: Path, record_property: Reports
) -> None:
    tally = new_tally(f"broker lost {LOSSES} times", record_property)
    running_broker = await start_broker(tmp_path)
    kafka = Kafka(
        bootstrap_servers=running_broker.bootstrap_servers,
        topic_prefix="lost",
        idempotent=kafka_name() == "apache",
        keep_offsets=kafka_name() == "tansu",
        partitions=4,
    )
    port = int(running_broker.bootstrap_servers.rpartition(":")[2])
    try:
        async with stage(api, api_server.settings, kafka, tmp_path) as scene:
            load, stop = (
                Load(api.store, scene.project, tally.random.getrandbits(32)),
                asyncio.Event(),
            )
            appending = asyncio.create_task(load.run(stop, pause=0.01))
            for each in scene.consumers:
                each.start()
            try:
                for _ in range(LOSSES):
                    await asyncio.sleep(tally.random.uniform(1, 2) * BETWEEN_SECONDS)
                    running_broker.process.kill()
                    await running_broker.stop()
                    await asyncio.sleep(tally.random.uniform(0, BETWEEN_SECONDS))
                    running_broker = await start_broker(tmp_path, port)
            finally:
                stop.set()
                await appending
            await scene.assert_parity(tally, load.position)
        conclude(len(scene.consumers), tally)
    finally:
        await running_broker.stop()
