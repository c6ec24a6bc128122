"""The topic of checkpoints on a real broker: subscribers get each one, and can verify it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from aiokafka import ConsumerRecord
from support.proxy import Proxy
from support.sealers import ORIGIN, SECONDS, Installation, installation, sealing, until
from support.services import kafka_name

from nbledger_audit import logs
from nbledger_domain.transparency.checkpoints import origin_of
from nbledger_infrastructure.kafka import clients
from nbledger_infrastructure.kafka.cloudevents import attributes
from nbledger_infrastructure.settings import Kafka

TENANTS = [UUID(int=1), UUID(int=2)]


@pytest.fixture
def broker(kafka: str, topic_prefix: str) -> Kafka:
    # Tansu knows no idempotent producers.
    idempotent = kafka_name() == "apache"
    return Kafka(bootstrap_servers=kafka, topic_prefix=topic_prefix, idempotent=idempotent)


@pytest.fixture
async def house(database_dsn: str, broker: Kafka, tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(database_dsn, tmp_path, kafka=broker) as made:
        yield made


class Subscriber:
    """A holder of checkpoints, which keeps all that it gets."""

    def __init__(self) -> None:
        self.messages: list[ConsumerRecord[bytes, bytes]] = []

    def notes(self, tenant_id: UUID) -> list[str]:
        """The values of a log's messages, without immediate repetitions."""
        key = origin_of(ORIGIN, tenant_id).encode()
        found = [(each.value or b"").decode() for each in self.messages if each.key == key]
        return [note for at, note in enumerate(found) if at == 0 or found[at - 1] != note]

    async def until(self, tenant_id: UUID, size: int) -> None:
        async def there() -> bool:
            notes = self.notes(tenant_id)
            return bool(notes) and notes[-1].split("\n")[1] == str(size)

        await until(there)


@asynccontextmanager
async def subscribing(broker: Kafka) -> AsyncIterator[Subscriber]:
    await clients.ensure_checkpoints_topic(broker)
    subscriber = Subscriber()

    async def read() -> None:
        async for message in client:
            subscriber.messages.append(message)

    topic = clients.checkpoints_topic(broker)
    async with clients.consumer(broker, topic, client_id="test") as client:
        assert client.partitions_for_topic(topic) == {0}
        task = asyncio.create_task(read())
        try:
            yield subscriber
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def stored(house: Installation, tenant_id: UUID) -> list[str]:
    async with house.pool.acquire() as connection:
        found = await logs.checkpoints_after(connection, tenant_id, 0, 1_000)
    return [each.note for each in found]


@pytest.mark.guarantee("G39")
async def test_a_subscriber_verifies_every_checkpoint(house: Installation, broker: Kafka) -> None:
    one, two = TENANTS
    async with subscribing(broker) as subscriber, sealing(house.settings):
        for size in (3, 260, 261):
            async with house.pool.acquire() as connection:
                had = await logs.signed_size(connection, one)
            await house.record(one, size - had)
            await house.until_signed(one, size)
        await house.record(two, 1)
        await subscriber.until(one, 261)
        await subscriber.until(two, 1)
    for tenant_id in TENANTS:
        notes = subscriber.notes(tenant_id)
        # Byte for byte what was signed, each one, in order.
        assert notes == await stored(house, tenant_id)
        await house.check_history(notes, tenant_id)
    for message in subscriber.messages:
        told = attributes(list(message.headers))
        covered = (message.value or b"").split(b"\n")[1].decode()
        assert (told["type"], told["subject"]) == ("nbledger.checkpoint.v1", covered)
        assert told["source"] == f"/audit/log/{told['tenantid']}"
        assert ("content-type", b"text/plain; charset=utf-8") in message.headers


@pytest.mark.guarantee("G39")
async def test_what_is_signed_while_the_broker_is_away_is_published_later(
    house: Installation, broker: Kafka
) -> None:
    (one, two) = TENANTS
    host, _, port = broker.bootstrap_servers.partition(":")
    proxy = Proxy(host, int(port))
    await proxy.start()
    away = msgspec.structs.replace(broker, bootstrap_servers=f"127.0.0.1:{proxy.port}")
    await proxy.refuse()
    without = msgspec.structs.replace(house.settings, kafka=away)
    async with sealing(without) as lacking:
        for size in (2, 5):
            await house.record(one, size - len(await stored(house, one)) * 2)
            await house.until_signed(one, size)

        async def told() -> bool:
            return "kafka" in lacking.now

        await until(told)
    assert not lacking.now
    # The next sealer publishes what the one before it could not.
    async with subscribing(broker) as subscriber:
        async with sealing(house.settings) as lacking:
            await house.record(two, 1)
            await subscriber.until(one, 5)
            await subscriber.until(two, 1)
            assert not lacking.now
        assert subscriber.notes(one) == await stored(house, one)
        assert len(subscriber.notes(one)) == 2
    # What takes the place of the topic begins with the newest checkpoint of each log.
    other = msgspec.structs.replace(broker, topic_prefix=f"{broker.topic_prefix}.anew")
    async with subscribing(other) as subscriber:
        async with sealing(msgspec.structs.replace(house.settings, kafka=other)):
            await subscriber.until(one, 5)
            await subscriber.until(two, 1)
        assert subscriber.notes(one) == (await stored(house, one))[-1:]


async def test_the_checkpoint_of_a_log_at_rest_is_published_again(
    house: Installation, broker: Kafka
) -> None:
    """So whoever subscribes knows how old the newest one can be."""
    tenant_id = TENANTS[0]
    async with subscribing(broker) as subscriber:
        async with sealing(house.having(idle_checkpoint_seconds=0.3)):
            await house.record(tenant_id, 3)

            async def thrice() -> bool:
                return len(subscriber.messages) >= 3

            async with asyncio.timeout(SECONDS):
                await until(thrice)
        assert len({message.value for message in subscriber.messages}) == 1
        told = [attributes(list(message.headers)) for message in subscriber.messages]
        times = [each["time"] for each in told]
        assert len({each["id"] for each in told}) == len(set(times)) == len(told)
        assert times == sorted(times)
        async with house.pool.acquire() as connection:
            newest = await logs.newest(connection, tenant_id)
            assert newest is not None
            assert newest.signed_at < newest.confirmed_at
