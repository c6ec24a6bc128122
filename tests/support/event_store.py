"""Events to append, an open store, and a hold on all commits."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import asyncpg

from nbledger_infrastructure.postgres.database import Pool, connect_pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, NewEvent, Stream

METADATA = Metadata(actor="user:1", correlation_id="c-1", request_id="r-1")
COMMIT_LOCK = 8242543731


def new_stream(*, subject_id: uuid.UUID | None = None) -> Stream:
    stream_id = uuid.uuid4()
    return Stream(
        stream_id=stream_id,
        subject_id=subject_id or stream_id,
        tenant_id=uuid.uuid4(),
        project_id=uuid.uuid4(),
    )


def new_event(data: bytes = b'{"a": 1}', type_: str = "thing.happened.v1") -> NewEvent:
    return NewEvent(event_id=uuid.uuid4(), type=type_, data=data, occurred_at=datetime.now(UTC))


@asynccontextmanager
async def open_stores(dsn: str, count: int) -> AsyncIterator[list[EventStore]]:
    """So many stores, on connections of their own."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn, max_size=2 * count))
        stores = [EventStore(pool) for _ in range(count)]
        for store in stores:
            await store.start()
            stack.push_async_callback(store.close)
        yield stores


@asynccontextmanager
async def open_pool(dsn: str, *, max_size: int = 4) -> AsyncIterator[Pool]:
    pool = await connect_pool(dsn, max_size=max_size, application_name="test")
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def open_store(pool: Pool) -> AsyncIterator[EventStore]:
    store = EventStore(pool)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def commits_held(dsn: str) -> AsyncIterator[None]:
    """Let no batch commit within the block, so that appends gather."""
    async with connect(dsn) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", COMMIT_LOCK)
        yield


async def wait_for_blocked(dsn: str, count: int = 1) -> list[int]:
    """Wait until `count` backends stand at the held lock; return their process ids."""
    async with connect(dsn) as connection:
        while True:
            rows = await connection.fetch(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            if len(rows) >= count:
                return [row["pid"] for row in rows]
