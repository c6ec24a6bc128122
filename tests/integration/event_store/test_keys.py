"""Idempotency keys in the event store: in the very append that they come with, and once."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from support.event_store import (
    METADATA,
    commits_held,
    connect,
    new_event,
    new_stream,
    open_pool,
    open_store,
    wait_for_blocked,
)

from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    EventStore,
    IdempotencyKey,
    KeyUsedError,
    RecordConflictError,
    Stream,
)

TENANT, PRINCIPAL = uuid.uuid4(), uuid.uuid4()


def stream_of(tenant_id: uuid.UUID = TENANT) -> Stream:
    stream_id = uuid.uuid4()
    return Stream(stream_id, stream_id, tenant_id, uuid.uuid4())


def key(
    text: str, *, principal_id: uuid.UUID = PRINCIPAL, operation: str = "make"
) -> IdempotencyKey:
    digest = text.encode().ljust(32, b"\x00")
    return IdempotencyKey(principal_id, operation, digest, b"f" * 32, '{"a": 1}')


async def make(
    store: EventStore, used: IdempotencyKey | None, *, stream: Stream | None = None, events: int = 1
) -> AppendResult:
    return await store.append(
        stream or stream_of(),
        [new_event() for _ in range(events)],
        expected_version=0,
        metadata=METADATA,
        key=used,
    )


@pytest.mark.guarantee("G31")
async def test_a_key_is_used_once_for_each_tenant_principal_and_operation(
    database_dsn: str,
) -> None:
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        first = stream_of()
        await make(store, key("k"), stream=first)
        with pytest.raises(KeyUsedError):
            await make(store, key("k"))
        # Neither version nor events of a stream are told to who comes with a used key.
        with pytest.raises(KeyUsedError):
            await make(store, key("k"), stream=first)
        assert await store.head_position() == 1
        await make(store, key("k2"))
        await make(store, key("k", principal_id=uuid.uuid4()))
        await make(store, key("k", operation="other"))
        await make(store, key("k"), stream=stream_of(uuid.uuid4()))
        assert await store.head_position() == 5
        row = await pool.fetchrow(
            "SELECT * FROM idempotency_key WHERE stream_id = $1", first.stream_id
        )
        assert row is not None
        assert (row["fingerprint"], row["answer"]) == (b"f" * 32, '{"a": 1}')
        assert row["created_at"] == await pool.fetchval(
            "SELECT recorded_at FROM event WHERE position = 1"
        )


@pytest.mark.guarantee("G31")
async def test_repetitions_of_one_batch_and_their_neighbours(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        taken = new_stream()
        await make(store, None, stream=taken)
        async with asyncio.TaskGroup() as tasks, commits_held(database_dsn):
            held = tasks.create_task(make(store, None))
            await wait_for_blocked(database_dsn)
            results = tasks.create_task(
                _outcomes(
                    make(store, key("a")),
                    make(store, None, events=2),
                    make(store, key("a")),
                    make(store, key("b"), events=3),
                    make(store, key("c"), stream=taken),
                    make(store, key("a")),
                    make(store, key("b")),
                    make(store, None),
                )
            )
            await asyncio.sleep(0)
        assert held.result().position == 2
        assert [type(each) for each in results.result()] == [
            AppendResult,
            AppendResult,
            KeyUsedError,
            AppendResult,
            RecordConflictError,
            KeyUsedError,
            KeyUsedError,
            AppendResult,
        ]
        # One that was refused for another reason has not used its key.
        await make(store, key("c"))
        keys = await pool.fetch("SELECT key_digest FROM idempotency_key ORDER BY key_digest")
        assert [row[0].rstrip(b"\x00") for row in keys] == [b"a", b"b", b"c"]
        assert await store.head_position() == 10


async def test_a_key_of_a_guarded_append(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        notebook = new_stream()
        await make(store, None, stream=notebook)
        for used, error in (("a", None), ("a", KeyUsedError), ("b", RecordConflictError)):
            run = Stream(uuid.uuid4(), notebook.stream_id, notebook.tenant_id, notebook.project_id)
            appending = store.append(
                run,
                [new_event()],
                expected_version=0,
                metadata=METADATA,
                subject_unchanged_since=1,
                key=key(used),
            )
            if error is None:
                await appending
            else:
                with pytest.raises(error):
                    await appending
        assert await pool.fetchval("SELECT count(*) FROM idempotency_key") == 1


async def test_erasing_takes_what_was_asked_and_answered(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        erased, kept = stream_of(), stream_of()
        await make(store, key("erased"), stream=erased)
        await make(store, key("kept"), stream=kept)
        await store.erase_subject(erased.stream_id)
        rows = await pool.fetch(
            "SELECT fingerprint, answer FROM idempotency_key ORDER BY created_at"
        )
        assert [tuple(row) for row in rows] == [(None, None), (b"f" * 32, '{"a": 1}')]
        with pytest.raises(KeyUsedError):
            await make(store, key("erased"))


async def test_processes_that_know_no_keys_go_on_appending(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        await make(store, key("k"))
        stream, event = new_stream(), new_event()
        arguments = [
            [stream.stream_id],
            [stream.subject_id],
            [stream.tenant_id],
            [stream.project_id],
            [0],
            ['{"actor": "old"}'],
            None,
            None,
            [event.event_id],
            [event.type],
            [event.data.decode()],
            [event.occurred_at],
            None,
            None,
            None,
        ]
        names = ", ".join(f"${number}" for number in range(1, 16))
        async with connect(database_dsn) as connection:
            statement = await connection.prepare(f"SELECT * FROM append_events({names})")
            assert tuple((await statement.fetch(*arguments))[0]) == (1, None, None, None)
            refused = tuple((await statement.fetch(*arguments))[0])
            assert refused == (2, [1], [1], [True])
        assert await store.head_position() == 2


async def _outcomes(*appends: object) -> list[object]:
    return list(await asyncio.gather(*appends, return_exceptions=True))  # type: ignore[call-overload]
