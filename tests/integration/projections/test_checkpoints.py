"""Checkpoints and rows move together: two projectors, crashing wherever they may."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support.event_store import open_pool, open_store
from support.read_models import Crash, Crashing, assert_holds, begin
from support.stories import Story, record, step
from support.stories import begin as begin_story

from nbledger_infrastructure.postgres.checkpoints import (
    Checkpoint,
    CheckpointMovedError,
    checkpoint,
)
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.machinery import runner
from nbledger_projections.machinery.decoding import DELETED
from nbledger_projections.registry import READ_MODELS

POINTS = ["load", "before save", "after save", "after commit"]


class Projector:
    """What a projector process knows: the rows in memory, and where it believes to be."""

    def __init__(self, name: str) -> None:
        self.projection = Crashing(READ_MODELS[name].projection())
        self.checkpoint: Checkpoint | None = None

    async def step(self, pool: Pool, batch: int) -> None:
        """One batch through the code that production runs, from wherever it believes to be."""
        if self.checkpoint is None:
            self.checkpoint = await begin(pool, self.projection.name)
        events = await EventStore(pool).read_all(
            after_position=self.checkpoint.position, limit=batch
        )
        if events:
            self.checkpoint = await runner.advance(
                pool, cast("runner.Projection", self.projection), events, self.checkpoint
            )


class Checkpoints(RuleBasedStateMachine):
    """Events come, two projectors work, lose races and crash; the rows are never wrong."""

    name: str
    pool: Pool
    store: EventStore
    loop: asyncio.Runner

    def run(self, work: Any) -> Any:
        return self.loop.run(work)

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        async def empty() -> None:
            async with self.pool.acquire() as connection:
                tables = ", ".join(READ_MODELS[self.name].tables)
                # With the queue: a seed that is drawn again asks for the same executions.
                queue = "execution_queue, queue_share, notebook_run_limit, projection_checkpoint"
                await connection.execute(f"TRUNCATE event, {queue}, {tables}")

        self.run(empty())
        self.dice = random.Random(seed)
        self.stories: list[Story] = []
        self.projectors = [Projector(self.name), Projector(self.name)]

    @rule(steps=st.integers(1, 12))
    def things_happen(self, steps: int) -> None:
        for _ in range(steps):
            if not self.stories or self.dice.random() < 0.2:
                self.stories.append(begin_story(self.dice))
            story = self.dice.choice(self.stories)
            step(story, self.dice)
            if not story.running and not story.notebook.deleted and self.dice.random() < 0.1:
                story.notebook.delete(at=story.at)
            self.run(record(self.store, story))

    @rule(which=st.integers(0, 1), batch=st.integers(1, 10))
    def project(self, which: int, batch: int) -> None:
        projector = self.projectors[which]
        try:
            self.run(projector.step(self.pool, batch))
        except CheckpointMovedError:
            projector.checkpoint = None  # the other one was quicker: begin again from there

    @rule(which=st.integers(0, 1), batch=st.integers(1, 10), point=st.sampled_from(POINTS))
    def project_and_crash(self, which: int, batch: int, point: str) -> None:
        self.projectors[which].projection.at = point
        with contextlib.suppress(CheckpointMovedError, Crash):
            self.run(self.projectors[which].step(self.pool, batch))
        self.projectors[which] = Projector(self.name)

    @invariant()
    def rows_are_what_the_checkpoint_says(self) -> None:
        if not hasattr(self, "stories"):
            return

        async def check() -> None:
            position = await checkpoint(self.pool, self.name)
            events = await self.store.read_all(after_position=0, limit=100_000)
            later = [each for each in events if each.position > position]
            await assert_holds(
                self.pool,
                self.name,
                events[:position],
                doomed={each.subject_id for each in later if each.type == DELETED},
            )

        self.run(check())

    def teardown(self) -> None:
        """Liveness: whatever has happened, both projectors come to the end."""
        if not hasattr(self, "stories"):
            return

        async def finish() -> None:
            head = await self.store.head_position()
            for projector in self.projectors:
                projector.projection.at = None
            for attempt in range(1000):
                projector = self.projectors[attempt % 2]
                try:
                    await projector.step(self.pool, 50)
                except CheckpointMovedError:
                    projector.checkpoint = None
                if await checkpoint(self.pool, self.name) == head:
                    break
            assert await checkpoint(self.pool, self.name) == head
            await assert_holds(
                self.pool,
                self.name,
                await self.store.read_all(after_position=0, limit=100_000),
            )

        self.run(finish())


@pytest.fixture
def runner_() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as loop:
        yield loop


@pytest.mark.parametrize("name", READ_MODELS)
def test_rows_and_checkpoint_move_together(
    name: str, database_dsn: str, runner_: asyncio.Runner
) -> None:
    stack = contextlib.AsyncExitStack()

    async def open_all() -> tuple[Pool, EventStore]:
        pool = await stack.enter_async_context(open_pool(database_dsn))
        return pool, await stack.enter_async_context(open_store(pool))

    pool, store = runner_.run(open_all())

    class Machine(Checkpoints):
        pass

    Machine.name, Machine.pool, Machine.store, Machine.loop = name, pool, store, runner_
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=6,
                stateful_step_count=15,
                deadline=None,
                # Shrinking would take minutes on a real database.
                phases=[Phase.reuse, Phase.generate],
                suppress_health_check=[
                    HealthCheck.too_slow,
                    HealthCheck.data_too_large,
                    HealthCheck.filter_too_much,
                ],
            ),
        )
    finally:
        runner_.run(stack.aclose())


async def test_a_projector_that_lost_a_race_forgets_what_it_had_in_memory(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(7)
    story = begin_story(dice)
    await record(store, story)
    one, two = Projector("notebook_details"), Projector("notebook_details")
    await one.step(pool, 10)
    await two.step(pool, 10)  # begins where the first one has got to
    for _ in range(5):
        step(story, dice)
    await record(store, story)
    await one.step(pool, 100)
    with pytest.raises(CheckpointMovedError):
        await two.step(pool, 100)
    step(story, dice)
    await record(store, story)
    two.checkpoint = None
    await two.step(pool, 100)
    await assert_holds(pool, "notebook_details", await store.read_all(after_position=0, limit=1000))
