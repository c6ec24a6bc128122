"""The queue of executions: written with each append, exact at every moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
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
from support.executions import make_settings
from support.fair_queue import shares
from support.stories import RESOURCES, Story, begin, record, request, step

from nbledger_application import queue, repository
from nbledger_application.reactions.sweep import Sweep
from nbledger_domain.execution import PRIORITIES, Execution, Phase, TerminationCode
from nbledger_infrastructure.postgres import database
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    QueueChange,
    RecordConflictError,
    RecordedEvent,
)

BEGINNING = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
SETTLED = (Execution.Requested.TYPE, Execution.Claimed.TYPE, Execution.AttemptLost.TYPE)


async def rows(pool: Pool) -> dict[UUID, tuple[Any, ...]]:
    async with acquire(pool) as connection:
        found = await connection.fetch("SELECT * FROM execution_queue")
    return {row["execution_id"]: tuple(row)[1:] for row in found}


async def as_folded(store: EventStore, stories: Sequence[Story]) -> dict[UUID, tuple[Any, ...]]:
    """The rows that the events of the executions add up to."""
    found: dict[UUID, tuple[Any, ...]] = {}
    for story in stories:
        for execution in story.executions:
            history = await store.read_stream(execution.id)
            if history and not execution.ended:
                found[execution.id] = _row(execution, history)
    return found


def _row(execution: Execution, history: Sequence[RecordedEvent]) -> tuple[Any, ...]:
    asked = history[0]
    last = [recorded for recorded in history if recorded.type in SETTLED][-1]
    # An append has one time of recording, and may hold more events.
    together = [each for each in history if each.recorded_at == last.recorded_at]
    return (
        asked.subject_id,
        asked.tenant_id,
        asked.project_id,
        execution.kernel_type,
        execution.options.priority,
        asked.recorded_at,
        "waiting" if execution.phase is Phase.QUEUED else "claimed",
        together[-1].position,
        last.recorded_at,
    )


async def test_the_queue_is_what_the_events_add_up_to(pool: Pool) -> None:
    dice = random.Random(7)
    stories = [begin(dice) for _ in range(4)]
    async with open_store(pool) as store:
        for _ in range(60):
            for story in stories:
                step(story, dice)
            # Together: they share batches, and some appends hold several events.
            await asyncio.gather(*(record(store, story) for story in stories))
            assert await rows(pool) == await as_folded(store, stories)
            kept, counted = await shares(pool)
            assert kept == counted
        states = {row[6] for row in (await rows(pool)).values()}
        assert states == {"waiting", "claimed"}
        assert any(execution.ended for story in stories for execution in story.executions)


async def test_the_queue_as_it_was_filled_is_what_it_would_be(pool: Pool) -> None:
    """Executions of before the table are entered by the migration."""
    dice = random.Random(8)
    stories = [begin(dice) for _ in range(4)]
    async with open_store(pool) as store:
        for _ in range(40):
            for story in stories:
                step(story, dice)
            await record(store, *stories)
        expected = await rows(pool)
    assert len(expected) > 2
    async with acquire(pool) as connection:
        await connection.execute("DELETE FROM execution_queue")
        await connection.execute(filling())
    assert_filled(await rows(pool), expected)


async def test_the_queue_is_filled_before_appends_are_held(database_dsn: str) -> None:
    """They are held while it is filled with what is new since."""
    dice = random.Random(12)
    story = begin(dice)
    waits, runs, claimed, ended = story.executions = [request(story, dice) for _ in range(4)]
    for execution in (runs, ended):
        execution.claim("worker-1", at=story.at)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(database_dsn, max_size=12))
        stores = [await stack.enter_async_context(open_store(pool)) for _ in range(3)]
        await record(stores[0], story)
        async with acquire(pool) as connection:
            await connection.execute("DELETE FROM execution_queue")
        claimed.claim("worker-2", at=story.at)
        ended.fail(1, TerminationCode.WORKER_LOST, detail="Lost.", resources=RESOURCES, at=story.at)
        new = request(story, dice)
        story.executions.append(new)
        migrating = await stack.enter_async_context(connect(database_dsn))
        async with commits_held(database_dsn):
            # Whoever asks for the lock first has it first.
            recording = [
                asyncio.create_task(
                    repository.append(
                        store, story.execution_stream(each), repository.collect(each), METADATA
                    )
                )
                for store, each in zip(stores, (claimed, ended, new), strict=True)
            ]
            await wait_for_blocked(database_dsn, 3)
            filled = asyncio.create_task(migrating.execute(filling()))
            blocked = await wait_for_blocked(database_dsn, 4)
            filler = migrating.get_server_pid()
            assert filler in blocked
            async with acquire(pool) as connection:
                has_read = await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND granted "
                    "AND relation = 'event'::regclass)",
                    filler,
                )
            assert has_read, "events are read before the lock is asked for"
        await asyncio.gather(*recording)
        await filled
        found = await rows(pool)
        assert_filled(found, await as_folded(stores[0], [story]))
    assert {key: row[6] for key, row in found.items()} == {
        waits.id: "waiting",
        new.id: "waiting",
        runs.id: "claimed",
        claimed.id: "claimed",
    }


def filling() -> str:
    """The statements of the migration that fill the queue."""
    script = Path(database.__file__).with_name("migrations") / "0013_execution_queue.sql"
    text = script.read_text()
    return text[text.index("-- Filled in two passes") : text.index("-- The function that appends")]


def assert_filled(
    filled: dict[UUID, tuple[Any, ...]], expected: dict[UUID, tuple[Any, ...]]
) -> None:
    position = 7
    assert {key: row[:position] + row[position + 1 :] for key, row in filled.items()} == {
        key: row[:position] + row[position + 1 :] for key, row in expected.items()
    }
    # It takes that of the event itself, which others of its append may follow.
    assert all(row[position] <= expected[key][position] for key, row in filled.items())


async def test_a_refused_append_changes_no_queue(database_dsn: str, pool: Pool) -> None:
    entered, refused = new_stream(), new_stream()
    entering = QueueChange("waiting", "python3", "Normal")
    async with open_store(pool) as store:
        await store.append(refused, [new_event()], expected_version=0, metadata=METADATA)
        async with commits_held(database_dsn):
            # One is under way, so that the next ones make a batch.
            first = asyncio.create_task(
                store.append(new_stream(), [new_event()], expected_version=0, metadata=METADATA)
            )
            await wait_for_blocked(database_dsn)
            both = [
                asyncio.create_task(
                    store.append(
                        stream,
                        [new_event(), new_event()],
                        expected_version=0,
                        metadata=METADATA,
                        queue=entering,
                    )
                )
                for stream in (refused, entered)
            ]
            await asyncio.sleep(0)
        await first
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(outcomes[0], RecordConflictError)
        assert not isinstance(outcomes[1], BaseException)
        found = await rows(pool)
        assert list(found) == [entered.stream_id]
        assert found[entered.stream_id][7] == outcomes[1].position
        # Nor does one that would end it.
        with pytest.raises(RecordConflictError):
            await store.append(
                entered,
                [new_event()],
                expected_version=1,
                metadata=METADATA,
                queue=QueueChange("ended"),
            )
        assert await rows(pool) == found


async def test_who_does_not_know_the_queue_appends_nothing(database_dsn: str) -> None:
    """As processes of before the queue: what they append would be in none, or stay in it."""
    async with connect(database_dsn) as connection:
        with pytest.raises(asyncpg.UndefinedFunctionError):
            await connection.execute(
                "SELECT append_events($1, $1, $1, $1, $2, $3, NULL, NULL, $1, $3, $3, $4)",
                [uuid4()],
                [0],
                ["{}"],
                [datetime.now(UTC)],
            )
        assert await connection.fetchval("SELECT count(*) FROM event") == 0


async def test_the_sweep_brings_stale_rows_back_in_line(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of runs that have ended, or were claimed or lost, by appends that told no queue."""
    monkeypatch.setattr(queue, "_REPAIR_PAGE", 2)
    dice = random.Random(13)
    story = begin(dice)
    for _ in range(8):
        story.executions.append(request(story, dice))
    ended_waiting, ended_claimed, taken, lost, erased, *exact = story.executions
    async with open_store(pool) as store:
        await record(store, story)
        for execution in (ended_claimed, lost, exact[0]):
            execution.claim("worker-1", at=story.at)
        await record(store, story)
        before = await rows(pool)
        ended_waiting.request_cancel(requested_by="user", at=story.at)
        ended_claimed.request_cancel(requested_by="user", at=story.at)
        ended_claimed.cancel(1, resources=RESOURCES, at=story.at)
        taken.claim("worker-1", at=story.at)
        lost.lose_attempt(1, "Lost.", at=story.at)
        with monkeypatch.context() as old:
            old.setattr(queue, "change_of", lambda *_: None)
            await record(store, story)
        async with acquire(pool) as connection:
            await connection.execute("UPDATE event SET data = NULL WHERE stream_id = $1", erased.id)
        assert await rows(pool) == before
        config = make_settings("", "", "", tmp_path)
        await Sweep(config, pool, store).once()
        found = await rows(pool)
        assert {key: row[6] for key, row in found.items()} == {
            taken.id: "claimed",
            lost.id: "waiting",
            **{each.id: before[each.id][6] for each in exact},
        }
        assert {each.id: found[each.id] for each in exact} == {
            each.id: before[each.id] for each in exact
        }
        story.executions.remove(erased)
        assert found == await as_folded(store, [story])
        assert await queue.repair(pool) == 0


async def test_what_is_erased_waits_no_more(pool: Pool) -> None:
    dice = random.Random(9)
    gone, kept = begin(dice), begin(dice)
    for story in (gone, kept):
        story.executions.append(request(story, dice))
    async with open_store(pool) as store:
        await record(store, gone, kept)
        await store.erase_subject(gone.notebook.id)
    assert list(await rows(pool)) == [kept.executions[0].id]


async def test_what_waits_is_found_by_class_and_age(pool: Pool) -> None:
    dice = random.Random(10)
    story = begin(dice)
    async with open_store(pool) as store:
        for _ in range(12):
            story.executions.append(request(story, dice))
            await record(store, story)
        taken = story.executions[0]
        taken.claim("worker-1", at=story.at)
        await record(store, story)
        head = await store.head_position()
    kernel_type = story.notebook.kernel_type
    for priority in PRIORITIES:
        expected = [
            execution.id
            for execution in story.executions[1:]
            if execution.options.priority == priority
        ]
        waits = await queue.waiting_after(pool, kernel_type, priority, BEGINNING, through=head)
        assert [each.execution_id for each in waits] == expected
        assert await queue.next_waiting(pool, [kernel_type], [priority]) == waits[0]
        pages = await queue.waiting_after(
            pool, kernel_type, priority, BEGINNING, through=head, limit=2
        )
        assert pages == waits[:2]
        last = (pages[-1].requested_at, pages[-1].execution_id)
        assert (
            await queue.waiting_after(pool, kernel_type, priority, last, through=head) == waits[2:]
        )
        assert not await queue.waiting_after(pool, kernel_type, priority, BEGINNING, through=0)
        assert await queue.waits_since(pool, kernel_type, priority, waits[-1].requested_at) is (
            len(waits) > 1
        )
    assert await queue.next_waiting(pool, ["other"], PRIORITIES) is None
    assert await queue.unleased(pool, silent_seconds=0) == [taken.id]
    assert await queue.unleased(pool, silent_seconds=60) == []
    assert await queue.late(pool, seconds=0) == [each.id for each in story.executions[1:]]
    assert await queue.late(pool, seconds=60) == []


def test_what_an_append_changes_is_told_by_its_last_step() -> None:
    dice = random.Random(11)
    story = begin(dice)
    execution = request(story, dice)
    changes = [queue.change_of(repository.collect(execution))]
    epoch = execution.claim("worker-1", at=story.at)
    changes.append(queue.change_of(repository.collect(execution)))
    execution.start(epoch, language="python", language_version="3", at=story.at)
    changes.append(queue.change_of(repository.collect(execution)))
    execution.request_cancel(requested_by="user", at=story.at)
    changes.append(queue.change_of(repository.collect(execution)))
    execution.cancel(epoch, resources=RESOURCES, at=story.at)
    changes.append(queue.change_of(repository.collect(execution)))

    options = execution.options
    assert changes == [
        QueueChange("waiting", execution.kernel_type, options.priority),
        QueueChange("claimed"),
        None,
        None,
        QueueChange("ended"),
    ]
    # One that no worker has is cancelled at once, in one append.
    waiting = request(story, dice)
    waiting.request_cancel(requested_by="user", at=story.at)
    assert queue.change_of(repository.collect(waiting)) == QueueChange("ended")
