"""Whatever is appended together, the store answers like a dictionary of lists would."""

from __future__ import annotations

import asyncio
import uuid
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.event_store import METADATA, new_event, open_pool, open_store

from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    EventStore,
    NewEvent,
    RecordConflictError,
    Stream,
    audit,
)


class Step(NamedTuple):
    """An append to the nth stream: how far off its version it expects, and how many events."""

    stream: int
    error: int
    events: int


STEPS = st.builds(
    Step,
    stream=st.integers(0, 3),
    error=st.sampled_from([0, 0, 0, 0, -1, 1]),
    events=st.sampled_from([1, 1, 1, 2, 5]),
)
# Each inner list is submitted at once.
ROUNDS = st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=1, max_size=5)


async def run_rounds(store: EventStore, rounds: list[list[Step]]) -> None:
    tenant, project, subject = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    streams = [Stream(uuid.uuid4(), subject, tenant, project) for _ in range(4)]
    model: dict[int, list[NewEvent]] = {number: [] for number in range(4)}
    start = await store.head_position()
    for steps in rounds:
        submitted = []
        # Appends to one stream are decided in the order they came, so the model foresees all.
        for step in steps:
            events = [new_event(b'{"n": %d}' % n) for n in range(step.events)]
            actual = len(model[step.stream])
            expected = max(actual + step.error, 0)
            if expected == actual:
                model[step.stream] += events
            submitted.append((step, events, expected, actual))
        results = await asyncio.gather(
            *(
                store.append(
                    streams[step.stream], events, expected_version=expected, metadata=METADATA
                )
                for step, events, expected, _ in submitted
            ),
            return_exceptions=True,
        )
        for (_, events, expected, actual), result in zip(submitted, results, strict=True):
            if expected == actual:
                assert isinstance(result, AppendResult)
                assert result.version == actual + len(events)
            else:
                assert isinstance(result, RecordConflictError)
                assert (result.expected_version, result.actual_version) == (expected, actual)
    for number, appended in model.items():
        recorded = await store.read_stream(streams[number].stream_id)
        assert [r.version for r in recorded] == list(range(1, len(appended) + 1))
        assert [(r.event_id, r.data) for r in recorded] == [(e.event_id, e.data) for e in appended]
    total = sum(len(events) for events in model.values())
    assert await store.head_position() == start + total
    everything = await store.read_subject(subject)
    assert [r.position for r in everything] == list(range(start + 1, start + total + 1))


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_store_answers_like_its_model(database_dsn: str, data: st.DataObject) -> None:
    # Every example has streams of its own, so they can share the database.
    rounds = data.draw(st.lists(ROUNDS, min_size=1, max_size=3))

    async def run() -> None:
        async with open_pool(database_dsn) as pool, open_store(pool) as store:
            for example in rounds:
                await run_rounds(store, example)
            assert (await audit.verify(pool)).intact

    asyncio.run(run())
