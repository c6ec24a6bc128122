"""Lineage reaches its receiver at least once: whatever is away, refuses, or is killed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from support.lineage import Tellers, World, by_http, checked, documents, managing, states, work
from support.receivers import Got, Receiver

from nbledger import roles
from nbledger_infrastructure.kafka import clients
from nbledger_infrastructure.lineage import manager as managers
from nbledger_infrastructure.lineage.manager import NAME, LineageManager
from nbledger_infrastructure.postgres.checkpoints import CheckpointMovedError, checkpoint
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Kafka, Settings
from nbledger_infrastructure.settings_loading import SettingsError
from nbledger_infrastructure.settings_sections.lineage import OpenLineage


def base(there: Receiver) -> str:
    return there.url.removesuffix("/hook")


def ends(found: list[dict[str, Any]]) -> list[str]:
    return [each["run"]["runId"] for each in found if each.get("eventType") == "COMPLETE"]


def complete(got: Sequence[Got]) -> set[str]:
    """The runs whose end has come."""
    return set(ends([msgspec.json.decode(each.body) for each in got]))


class Silent:
    def __call__(self, **details: str) -> None:
        raise AssertionError

    def lacks(self, what: str, problem: str | None) -> None:
        raise AssertionError


async def at_once(manager: LineageManager) -> float | None:
    """Try again now, where the next try is after a pause."""
    manager._again_at = 0.0
    return await work(manager)


async def test_it_is_posted_as_clients_of_openlineage_do(
    pool: Pool, there: Receiver, world: World
) -> None:
    await world.run(world.request())
    settings = by_http(base(there) + "/", api_key="s3cret", compression="gzip")
    async with managing(pool, settings) as manager:
        await work(manager)
    for got in there.got:
        assert got.path == "/api/v1/lineage"
        assert got.headers["authorization"] == "Bearer s3cret"
        assert got.headers["content-type"] == "application/json"
        assert got.headers["content-encoding"] == "gzip"
        checked(msgspec.json.decode(gzip.decompress(got.body)))
    assert len(there.got) == 2


@pytest.mark.guarantee("G61")
async def test_while_the_receiver_is_away_nothing_is_lost(
    pool: Pool, there: Receiver, world: World
) -> None:
    first = await world.run(world.request())
    before = await checkpoint(pool, NAME)
    async with managing(pool, by_http(base(there), timeout_seconds=0.3)) as manager:
        with capture_logs() as logs:
            for answer in (503, 401, 404, 429, 302, b"", None):
                there.always = answer
                there.got.clear()
                pause = await at_once(manager)
                assert pause is not None
                assert pause >= 1.0
                # It rests for so long.
                tried = len(there.got)
                assert tried > 0
                assert (await manager.tick() or 0.0) > 0.0
                assert len(there.got) == tried
        told = [each for each in logs if each["event"] == "lineage not delivered"]
        assert len(told) == 1, "an outage is told once"
        assert await checkpoint(pool, NAME) == before
        there.got.clear()
        there.always = 200
        with capture_logs() as logs:
            await at_once(manager)
        (back,) = (each for each in logs if each["event"].startswith("lineage"))
        assert (back["event"], back["failures"]) == ("lineage goes on", 7)
        second = await world.run(world.request())
        await work(manager)
    assert ends(documents(there.got)) == [str(first.id), str(second.id)]


async def test_what_is_refused_for_good_is_told_in_the_log_and_holds_nobody_up(
    pool: Pool, there: Receiver, world: World
) -> None:
    await world.run(world.request())
    last = await world.run(world.request())
    there.answers.extend([400, 422])
    async with managing(pool, by_http(base(there))) as manager:
        with capture_logs() as logs:
            assert await work(manager) is None
    assert await checkpoint(pool, NAME) == await world.store.head_position()
    refused = [each for each in logs if each["event"] == "lineage refused"]
    assert [(each["status"], each["answer"]) for each in refused] == [(400, "told"), (422, "told")]
    assert ends(documents(there.got[2:])) == [str(last.id)]


async def test_it_goes_on_where_another_was_and_of_two_one_is_refused(
    pool: Pool, there: Receiver, world: World
) -> None:
    first = await world.run(world.request())
    settings = by_http(base(there))
    async with managing(pool, settings) as one, managing(pool, settings) as other:
        await work(one)
        second = await world.run(world.request())
        await work(other)
        assert ends(documents(there.got)) == [str(first.id), str(second.id)]
        third = await world.run(world.request())
        # It does not know that another one is at work, and sends what it knows of: once more.
        with pytest.raises(CheckpointMovedError):
            await work(one)
        await work(other)
    assert set(ends(documents(there.got))) == {str(first.id), str(second.id), str(third.id)}


async def test_it_begins_where_it_is_told_to(pool: Pool, there: Receiver, world: World) -> None:
    first = await world.run(world.request())
    for start, expected in (("now", False), ("beginning", True)):
        async with acquire(pool) as connection:
            await connection.execute("DELETE FROM projection_checkpoint WHERE name = $1", NAME)
        there.got.clear()
        async with managing(pool, by_http(base(there), start=start)) as manager:
            await work(manager)
            assert (str(first.id) in ends(documents(there.got))) == expected
            later = await world.run(world.request())
            await work(manager)
        assert str(later.id) in ends(documents(there.got))


async def test_its_position_moves_though_nothing_is_told(
    pool: Pool, there: Receiver, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managing(pool, by_http(base(there))) as manager:
        await work(manager)
        assert await checkpoint(pool, NAME) < await world.store.head_position()
        monkeypatch.setattr(managers, "SAVE_SECONDS", 0.0)
        await work(manager)
    assert await checkpoint(pool, NAME) == await world.store.head_position()
    assert there.got == []


async def test_documents_of_one_job_are_in_order_and_others_do_not_wait(
    pool: Pool, there: Receiver, world: World, store: EventStore
) -> None:
    other = World(store)
    await other.save(other.notebook)
    runs = [await each.run(each.request()) for each in (world, other) for _ in range(20)]
    there.answers.append(None)
    async with managing(pool, by_http(base(there), concurrency=2)) as manager:
        working = asyncio.create_task(work(manager))
        # One hangs; all of the other's come.
        await there.until(1 + 40)
        there.release.set()
        await working
        await at_once(manager)
    told = states(documents(there.got))
    assert told == {str(run.id): ["START", "COMPLETE"] for run in runs}


@pytest.mark.guarantee("G61")
async def test_it_is_published_on_a_topic_with_the_keys_of_openlineages_clients(
    pool: Pool, world: World, kafka: str, topic_prefix: str
) -> None:
    dataset = await world.dataset()
    run = await world.run(world.request())
    settings = Settings(
        kafka=Kafka(bootstrap_servers=kafka, topic_prefix=topic_prefix, idempotent=False),
        lineage=OpenLineage(transport="kafka"),
    )
    async with managing(pool, settings) as manager:
        assert await work(manager) is None
    topic = clients.lineage_topic(settings.kafka)
    assert topic == f"{topic_prefix}.lineage"
    async with clients.consumer(settings.kafka, topic, client_id="test") as client:
        async with asyncio.timeout(30):
            messages = [await client.getone() for _ in range(3)]
    found = {
        (message.key, each.get("eventType"))
        for message in messages
        if (each := checked(msgspec.json.decode(message.value or b"")))
    }
    key = f"run:{world.namespace}/{run.notebook_id}".encode()
    assert found == {
        (f"dataset:{world.namespace}/{dataset.id}".encode(), None),
        (key, "START"),
        (key, "COMPLETE"),
    }


async def test_while_the_broker_is_away_nothing_is_lost(pool: Pool, world: World) -> None:
    await world.run(world.request())
    before = await checkpoint(pool, NAME)
    nobody = Settings(
        kafka=Kafka(bootstrap_servers="127.0.0.1:1", idempotent=False),
        lineage=OpenLineage(transport="kafka"),
    )
    async with managing(pool, nobody) as manager:
        assert (await work(manager) or 0.0) >= 1.0
    assert await checkpoint(pool, NAME) == before


@pytest.mark.guarantee("G61")
@pytest.mark.timeout(180)
async def test_a_process_that_is_killed_is_taken_over_where_it_was(
    database_dsn: str, there: Receiver, world: World
) -> None:
    async with AsyncExitStack() as stack:
        tellers = Tellers(database_dsn, base(there), stack)
        await tellers.start()
        await tellers.start()
        runs = [await world.run(world.request()) for _ in range(60)]
        await there.until(50)
        await tellers.kill()
        runs += [await world.run(world.request()) for _ in range(60)]
        expected = {str(run.id) for run in runs}
        async with asyncio.timeout(60):
            while complete(there.got) != expected:
                await there.until(len(there.got) + 1)
    assert states(documents(there.got)) == {each: ["START", "COMPLETE"] for each in expected}


async def test_it_goes_through_the_proxy_that_is_set(
    pool: Pool, there: Receiver, world: World
) -> None:
    await world.run(world.request())
    settings = by_http("http://tool.invalid", proxy_url=base(there))
    async with managing(pool, settings) as manager:
        assert await work(manager) is None
    assert {got.path for got in there.got} == {"http://tool.invalid/api/v1/lineage"}


async def test_a_relay_without_the_receivers_url_says_so() -> None:
    nowhere = Settings(lineage=OpenLineage(transport="http"))
    with pytest.raises(SettingsError, match="NBLEDGER_LINEAGE_URL"):
        await roles.relay(nowhere, asyncio.Event(), Silent())
