"""Following the store: woken by appends, by polling when not, through lost connections."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from support.event_store import METADATA, connect, new_event, new_stream

from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, EventTail, tail


async def append(store: EventStore, count: int = 1) -> None:
    events = [new_event() for _ in range(count)]
    await store.append(new_stream(), events, expected_version=0, metadata=METADATA)


async def waiting(tail_: EventTail, dsn: str) -> asyncio.Task[list[int]]:
    """Start to read, and wait until the tail listens and has found nothing."""

    async def positions() -> list[int]:
        return [event.position for event in await tail_.next_batch()]

    async with connect(dsn) as connection:
        begin = await connection.fetchval("SELECT clock_timestamp()")
        task = asyncio.ensure_future(positions())
        found = False
        while not found:
            found = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() "
                "AND state = 'idle' AND query LIKE '%position > $1%' AND query_start > $1)",
                begin,
            )
    return task


async def test_batches_follow_each_other(store: EventStore, pool: Pool) -> None:
    await append(store, 5)
    async with EventTail(pool, after_position=1, batch_size=3) as events:
        assert [e.position for e in await events.next_batch()] == [2, 3, 4]
        assert [e.position for e in await events.next_batch()] == [5]
        assert events.after_position == 5


async def test_an_append_wakes_the_tail(
    store: EventStore, pool: Pool, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "POLL_INTERVAL", 60.0)
    async with EventTail(pool, 0) as events, asyncio.timeout(10):
        batch = await waiting(events, database_dsn)
        await append(store)
        assert await batch == [1]


async def test_a_missed_notification_costs_a_poll(
    store: EventStore, pool: Pool, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "POLL_INTERVAL", 0.2)
    monkeypatch.setattr(EventTail, "_on_notify", lambda *_: None)
    async with EventTail(pool, 0) as events, asyncio.timeout(10):
        batch = await waiting(events, database_dsn)
        await append(store)
        assert await batch == [1]


async def test_a_lost_connection_is_replaced(
    store: EventStore, pool: Pool, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EventTail(pool, 0) as events, asyncio.timeout(10):
        batch = await waiting(events, database_dsn)
        async with connect(database_dsn) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE '%position > $1%' "
                "AND pid <> pg_backend_pid()"
            )
        await append(store)
        assert await batch == [1]
        # The new connection listens like the old one did.
        monkeypatch.setattr(tail, "POLL_INTERVAL", 60.0)
        batch = await waiting(events, database_dsn)
        await append(store)
        assert await batch == [2]


async def test_a_cancelled_wait_loses_nothing(store: EventStore, pool: Pool) -> None:
    async with EventTail(pool, 0) as events, asyncio.timeout(10):
        for expected in range(1, 6):
            task = asyncio.ensure_future(events.next_batch())
            for _ in range(expected):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await append(store)
            assert [e.position for e in await events.next_batch()] == [expected]


async def test_large_events_come_in_smaller_batches(store: EventStore) -> None:
    # Random, so that it cannot be compressed.
    large = [b'{"text": "%s"}' % random.randbytes(3 << 20).hex().encode() for _ in range(5)]
    for data in large:
        event = msgspec.structs.replace(new_event(), data=data)
        await store.append(new_stream(), [event], expected_version=0, metadata=METADATA)
    read: list[bytes | None] = []
    sizes: list[int] = []
    while batch := await store.read_all(after_position=len(read), limit=500):
        sizes.append(len(batch))
        read += [recorded.data for recorded in batch]
    assert read == large
    assert max(sizes) < len(large)
