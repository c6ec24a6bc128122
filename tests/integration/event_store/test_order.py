"""Position order is commit order, also between transactions that are open at the same time."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

import asyncpg
import pytest
from support.event_store import (
    METADATA,
    connect,
    new_event,
    new_stream,
    open_pool,
    open_store,
    wait_for_blocked,
)

_APPEND = (
    "SELECT * FROM append_events($1, $1, $1, $1, $2, $3, NULL, $4, $5, $6, $7, $8, "
    "NULL, NULL, NULL)"
)


async def append_one(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute(
        _APPEND,
        [uuid.uuid4()],
        [0],
        ['{"actor":"x"}'],
        [1],
        [uuid.uuid4()],
        ["t"],
        ["{}"],
        [datetime.now(UTC)],
    )


async def positions(connection: asyncpg.Connection[asyncpg.Record]) -> list[int]:
    rows = await connection.fetch("SELECT position FROM event ORDER BY position")
    return [row["position"] for row in rows]


@pytest.mark.guarantee("G1")
async def test_a_later_transaction_cannot_commit_first(database_dsn: str) -> None:
    async with (
        connect(database_dsn) as first,
        connect(database_dsn) as second,
        connect(database_dsn) as reader,
    ):
        transaction = first.transaction()
        await transaction.start()
        await append_one(first)
        later = asyncio.ensure_future(append_one(second))
        await wait_for_blocked(database_dsn)
        assert await positions(reader) == []
        await transaction.commit()
        assert 1 in await positions(reader)
        await later
        assert await positions(reader) == [1, 2]


@pytest.mark.guarantee("G1")
async def test_a_rolled_back_transaction_leaves_no_gap(database_dsn: str) -> None:
    async with connect(database_dsn) as first, open_pool(database_dsn) as pool:
        transaction = first.transaction()
        await transaction.start()
        await append_one(first)
        await append_one(first)
        async with open_store(pool) as store:
            waiting = asyncio.ensure_future(
                store.append(new_stream(), [new_event()], expected_version=0, metadata=METADATA)
            )
            await wait_for_blocked(database_dsn)
            await transaction.rollback()
            assert (await waiting).position == 1


@pytest.mark.guarantee("G2")
async def test_two_writers_of_one_version_in_two_processes(database_dsn: str) -> None:
    """The second sees what the first committed while it waited for the lock: one conflict."""
    stream = new_stream()
    async with (
        open_pool(database_dsn) as pool,
        open_pool(database_dsn) as other_pool,
        open_store(pool) as store,
        open_store(other_pool) as other,
        connect(database_dsn) as holder,
    ):
        transaction = holder.transaction()
        await transaction.start()
        await append_one(holder)
        both = [
            asyncio.ensure_future(
                s.append(stream, [new_event()], expected_version=0, metadata=METADATA)
            )
            for s in (store, other)
        ]
        await wait_for_blocked(database_dsn, 2)
        await transaction.commit()
        results = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(type(r).__name__ for r in results) == ["AppendResult", "RecordConflictError"]


async def test_recorded_at_never_falls(database_dsn: str) -> None:
    """Even where the clock of the database was set back."""
    async with connect(database_dsn) as connection:
        await append_one(connection)
        await connection.execute("UPDATE event SET recorded_at = recorded_at + interval '1 hour'")
        await append_one(connection)
        times = await connection.fetch("SELECT recorded_at FROM event ORDER BY position")
    assert times[1][0] >= times[0][0]
