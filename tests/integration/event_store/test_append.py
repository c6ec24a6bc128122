"""Appending: all or nothing, in order, and a refused append fails alone."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Coroutine
from typing import Any

import pytest
from support.event_store import (
    METADATA,
    commits_held,
    connect,
    new_event,
    new_stream,
    wait_for_blocked,
)

from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    DuplicateEventError,
    EventStore,
    InvalidEventError,
    Metadata,
    NewEvent,
    RecordConflictError,
    StoreUnavailableError,
    Stream,
    audit,
    group_commit,
)


async def append(
    store: EventStore,
    stream: Stream,
    *events: NewEvent,
    expected: int = 0,
    unchanged_since: int | None = None,
) -> AppendResult:
    return await store.append(
        stream,
        events or [new_event()],
        expected_version=expected,
        metadata=METADATA,
        subject_unchanged_since=unchanged_since,
    )


async def outcomes_of(*appends: Coroutine[Any, Any, AppendResult]) -> list[object]:
    return list(await asyncio.gather(*appends, return_exceptions=True))


async def test_an_event_is_read_as_it_was_appended(store: EventStore, pool: Pool) -> None:
    stream = new_stream()
    data = '{"b":1,  "a": "ü\\u0000", "n": 1.0}'.encode()
    event = new_event(data, "notebook.created.v1")
    result = await append(store, stream, event)
    assert result == AppendResult(position=1, version=1)
    [recorded] = await store.read_stream(stream.stream_id)
    assert recorded.data == data
    salt = await pool.fetchval("SELECT salt FROM event")
    assert len(salt) == 16
    assert recorded.digest == hashlib.sha256(salt + data).digest()
    assert (recorded.event_id, recorded.type, recorded.occurred_at) == (
        event.event_id,
        "notebook.created.v1",
        event.occurred_at,
    )
    assert (recorded.stream_id, recorded.subject_id, recorded.tenant_id, recorded.project_id) == (
        stream.stream_id,
        stream.subject_id,
        stream.tenant_id,
        stream.project_id,
    )
    assert recorded.metadata == METADATA
    assert recorded.recorded_at.utcoffset() is not None


@pytest.mark.guarantee("G3")
async def test_several_events_of_one_append_stand_together(store: EventStore) -> None:
    stream, other = new_stream(), new_stream()
    results = await asyncio.gather(
        append(store, stream, *(new_event() for _ in range(5))), append(store, other)
    )
    assert list(results) == [AppendResult(5, 5), AppendResult(6, 1)]
    assert [e.version for e in await store.read_stream(stream.stream_id)] == [1, 2, 3, 4, 5]


async def test_reading_is_by_version_subject_and_position(store: EventStore) -> None:
    notebook = new_stream()
    execution = new_stream(subject_id=notebook.stream_id)
    await append(store, notebook, new_event(), new_event(), new_event())
    await append(store, execution, new_event())
    await append(store, new_stream())
    await append(store, notebook, expected=3)
    later = await store.read_stream(notebook.stream_id, after_version=1, limit=2)
    assert [e.version for e in later] == [2, 3]
    of_subject = await store.read_subject(notebook.stream_id, after_position=2)
    assert [e.position for e in of_subject] == [3, 4, 6]
    everything = await store.read_all(after_position=1, limit=4)
    assert [e.position for e in everything] == [2, 3, 4, 5]
    assert await store.head_position() == 6


async def test_the_empty_store(store: EventStore) -> None:
    assert await store.head_position() == 0
    assert await store.read_all(after_position=0, limit=10) == []
    assert await store.read_stream(uuid.uuid4()) == []


@pytest.mark.guarantee("G2")
@pytest.mark.parametrize("expected", [0, 2])
async def test_another_version_than_expected_is_a_conflict(
    store: EventStore, expected: int
) -> None:
    stream = new_stream()
    await append(store, stream)
    with pytest.raises(RecordConflictError) as refused:
        await append(store, stream, expected=expected)
    error = refused.value
    assert (error.stream_id, error.expected_version, error.actual_version) == (
        stream.stream_id,
        expected,
        1,
    )
    assert await store.head_position() == 1


async def test_faults_of_a_batch_fail_alone(store: EventStore, database_dsn: str) -> None:
    taken, known = new_stream(), new_event()
    await append(store, taken, known)
    # What the database refuses, or cannot even be sent to it.
    broken = [b"{", b'{"a": "\x00"}', b"[" * 100_000]
    async with asyncio.TaskGroup() as tasks, commits_held(database_dsn):
        first = tasks.create_task(append(store, new_stream()))
        await wait_for_blocked(database_dsn)
        outcomes = tasks.create_task(
            outcomes_of(
                append(store, new_stream(), new_event(), new_event()),
                append(store, taken),
                append(store, new_stream()),
                append(store, new_stream(), new_event(), known),
                *(append(store, new_stream(), new_event(data)) for data in broken),
                append(store, new_stream(), new_event(), new_event()),
            )
        )
        await asyncio.sleep(0)
    results = outcomes.result()
    assert first.result() == AppendResult(2, 1)
    assert [type(result) for result in results] == [
        AppendResult,
        RecordConflictError,
        AppendResult,
        DuplicateEventError,
        InvalidEventError,
        InvalidEventError,
        InvalidEventError,
        AppendResult,
    ]
    assert [r for r in results if isinstance(r, AppendResult)] == [
        AppendResult(4, 2),
        AppendResult(5, 1),
        AppendResult(7, 2),
    ]


async def test_conflicts_and_their_neighbours_share_one_commit(
    store: EventStore, database_dsn: str
) -> None:
    taken = new_stream()
    await append(store, taken)
    async with asyncio.TaskGroup() as tasks, commits_held(database_dsn):
        tasks.create_task(append(store, new_stream()))
        await wait_for_blocked(database_dsn)
        good = [tasks.create_task(append(store, new_stream())) for _ in range(20)]
        bad = tasks.create_task(outcomes_of(append(store, taken)))
        more = [tasks.create_task(append(store, new_stream())) for _ in range(20)]
        await asyncio.sleep(0)
    assert [task.result().position for task in good + more] == list(range(3, 43))
    [refused] = bad.result()
    assert isinstance(refused, RecordConflictError)
    async with connect(database_dsn) as connection:
        commits = await connection.fetchval(
            "SELECT count(DISTINCT xmin::text) FROM event WHERE position > 2"
        )
    assert commits == 1


async def test_appends_to_one_stream_at_once_are_decided_in_order(store: EventStore) -> None:
    stream = new_stream()
    results = await asyncio.gather(
        append(store, stream),
        append(store, stream, expected=1),
        append(store, stream, expected=1),
        append(store, new_stream()),
        append(store, stream, expected=2),
        return_exceptions=True,
    )
    assert isinstance(results[2], RecordConflictError)
    versions = [r.version for r in results if isinstance(r, AppendResult)]
    assert versions == [1, 2, 1, 3]
    assert [e.position for e in await store.read_all(after_position=0, limit=10)] == [1, 2, 3, 4]


async def test_a_repeated_append_is_told_apart_from_a_conflict(store: EventStore) -> None:
    stream, event = new_stream(), new_event()
    await append(store, stream, event)
    with pytest.raises(DuplicateEventError):  # the stream has moved on, because of this event
        await append(store, stream, event)
    with pytest.raises(DuplicateEventError):
        await append(store, stream, event, expected=1)
    with pytest.raises(DuplicateEventError):
        await append(store, new_stream(), event)
    assert await store.head_position() == 1


async def test_the_subject_guard(store: EventStore) -> None:
    notebook = new_stream()
    execution = new_stream(subject_id=notebook.stream_id)
    await append(store, notebook)
    seen = (await append(store, execution)).position
    await append(store, new_stream())  # of another subject
    await append(store, notebook, expected=1, unchanged_since=seen)
    with pytest.raises(RecordConflictError):
        await append(store, notebook, expected=2, unchanged_since=seen)
    # Guarded appends among others, all at once: each is judged on what came before it.
    head = await store.head_position()
    results = await asyncio.gather(
        append(store, new_stream()),
        append(store, notebook, expected=2, unchanged_since=head),
        append(store, execution, expected=1, unchanged_since=head),
        append(store, new_stream()),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [
        AppendResult,
        AppendResult,
        RecordConflictError,
        AppendResult,
    ]


async def test_a_cancelled_caller_leaves_the_batch_whole(
    store: EventStore, database_dsn: str
) -> None:
    async with asyncio.TaskGroup() as tasks, commits_held(database_dsn):
        in_flight = tasks.create_task(append(store, new_stream()))
        await wait_for_blocked(database_dsn)
        waiting = [tasks.create_task(append(store, new_stream())) for _ in range(4)]
        await asyncio.sleep(0)
        in_flight.cancel()
        waiting[1].cancel()
        await asyncio.wait([in_flight, waiting[1]])
    # The one in flight was written all the same; the one that still waited was taken back.
    assert [w.result().position for w in (waiting[0], waiting[2], waiting[3])] == [2, 3, 4]
    assert await store.head_position() == 4


async def test_closing_writes_what_waits_and_refuses_more(pool: Pool, database_dsn: str) -> None:
    store = EventStore(pool)
    await store.start()
    async with commits_held(database_dsn):
        appends = [asyncio.ensure_future(append(store, new_stream())) for _ in range(10)]
        await wait_for_blocked(database_dsn)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError):
            await append(store, new_stream())
    await closing
    assert sorted(r.position for r in await asyncio.gather(*appends)) == list(range(1, 11))
    await store.start()
    assert (await append(store, new_stream())).position == 11
    await store.close()


@pytest.mark.guarantee("G3")
async def test_a_lost_connection_leaves_the_outcome_unknown_and_a_retry_safe(
    store: EventStore, database_dsn: str
) -> None:
    stream, event = new_stream(), new_event()
    async with commits_held(database_dsn), connect(database_dsn) as connection:
        doomed = asyncio.ensure_future(append(store, stream, event))
        [backend] = await wait_for_blocked(database_dsn)
        await connection.execute("SELECT pg_terminate_backend($1)", backend)
        with pytest.raises(StoreUnavailableError) as lost:
            await doomed
    assert lost.value.outcome_unknown
    assert await append(store, stream, event) == AppendResult(1, 1)
    with pytest.raises(DuplicateEventError):
        await append(store, stream, event)


async def test_a_store_that_cannot_write_answers_everybody(
    store: EventStore, database_dsn: str
) -> None:
    async with connect(database_dsn) as connection:
        await connection.execute("ALTER FUNCTION append_events RENAME TO mislaid")
        results = await asyncio.gather(
            *(append(store, new_stream()) for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results] == [StoreUnavailableError] * 3
        assert not any(r.outcome_unknown for r in results if isinstance(r, StoreUnavailableError))
        await connection.execute("ALTER FUNCTION mislaid RENAME TO append_events")
    assert (await append(store, new_stream())).position == 1


async def test_a_batch_that_takes_too_long_is_given_up(
    store: EventStore, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "COMMIT_TIMEOUT", 0.1)
    async with commits_held(database_dsn):
        with pytest.raises(StoreUnavailableError) as late:
            await append(store, new_stream())
    assert late.value.outcome_unknown
    monkeypatch.undo()
    await append(store, new_stream())


@pytest.mark.guarantee("G5")
async def test_erasing_drops_the_data_and_nothing_else(store: EventStore, pool: Pool) -> None:
    notebook = new_stream()
    execution = new_stream(subject_id=notebook.stream_id)
    kept = new_stream()
    for stream in (notebook, execution, kept):
        await append(store, stream, new_event(), new_event())
    await append(store, notebook, new_event(type_="notebook.deleted.v1"), expected=2)
    before = await store.read_all(after_position=0, limit=10)
    assert await store.erase_subject(notebook.stream_id) == 5
    assert await store.erase_subject(notebook.stream_id) == 0
    after = await store.read_all(after_position=0, limit=10)
    assert [e.data is None for e in after] == [True] * 4 + [False] * 2 + [True]
    assert [(e.digest, e.chain, e.metadata, e.type) for e in after] == [
        (e.digest, e.chain, e.metadata, e.type) for e in before
    ]
    await append(store, notebook, expected=3)
    report = await audit.verify(pool)
    assert (report.fault, report.erased) == (None, 5)
    # What came after the erasure is erased with it when asked again.
    assert await store.erase_subject(notebook.stream_id) == 1
    assert (await audit.verify(pool)).fault is None


@pytest.mark.parametrize(("events", "expected"), [([], 0), ([new_event()], -1)])
async def test_nonsense_is_refused_before_it_is_queued(
    store: EventStore, events: list[NewEvent], expected: int
) -> None:
    with pytest.raises(ValueError, match=r"needs an event|never negative"):
        await store.append(
            new_stream(), events, expected_version=expected, metadata=Metadata(actor="x")
        )
