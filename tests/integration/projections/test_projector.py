"""The projector process: everything in it, beside another one, and when something is wrong."""

from __future__ import annotations

import asyncio
import random
import uuid
from pathlib import Path
from uuid import UUID

import pytest
import structlog
from structlog.typing import EventDict
from support.event_store import METADATA, connect, new_event
from support.paths import TESTS
from support.read_models import assert_holds, catch_up, contents, running, until_reached
from support.stories import Story, begin, complete, record, request, step

from nbledger import roles
from nbledger_application.reactions import deletions, eraser
from nbledger_domain.events import UnknownEventTypeError
from nbledger_domain.execution import Execution
from nbledger_infrastructure import settings
from nbledger_infrastructure.artifacts.store import ArtifactMissingError, ArtifactStore, Scope
from nbledger_infrastructure.artifacts.store import open_store as open_artifacts
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, EventTail, NewEvent, Stream
from nbledger_projections.machinery.decoding import DELETED
from nbledger_projections.read_models.notebooks import details as notebook_details
from nbledger_projections.registry import READ_MODELS

GOLDEN = TESTS / "unit" / "domain" / "golden"
SKIPPED = "trigger.skipped.v1"


def make_settings(dsn: str, folder: Path) -> settings.Settings:
    return settings.Settings(
        postgres=settings.Postgres(dsn=dsn),
        artifacts=settings.Artifacts(url=(folder / "artifacts").as_uri()),
    )


async def test_two_projectors_at_once(
    pool: Pool, store: EventStore, database_dsn: str, tmp_path: Path
) -> None:
    config = make_settings(database_dsn, tmp_path)
    dice = random.Random(1)
    stories = [begin(dice) for _ in range(5)]
    await record(store, *stories)
    async with running(roles.projector, config):
        async with running(roles.projector, config):
            for _ in range(150):
                story = dice.choice(stories)
                step(story, dice)
                head = await record(store, story)
            await until_reached(pool, await store.head_position())
        # One has ended: the other one goes on.
        while not (head := await record(store, *stories)):
            step(dice.choice(stories), dice)
        await until_reached(pool, head)
    events = await store.read_all(after_position=0, limit=10_000)
    for name in READ_MODELS:
        await assert_holds(pool, name, events)


async def test_the_projector_outlives_the_loss_of_its_connections(
    pool: Pool, store: EventStore, database_dsn: str, tmp_path: Path
) -> None:
    dice = random.Random(2)
    story = begin(dice)
    await record(store, story)
    async with running(roles.projector, make_settings(database_dsn, tmp_path)):
        await until_reached(pool, 1)
        async with connect(database_dsn) as connection:
            assert await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'nbledger-projector' "
                "AND datname = current_database()"
            )
        while not (head := await record(store, story)):
            step(story, dice)
        await until_reached(pool, head)


async def test_an_event_that_cannot_be_folded_stops_its_projections_loudly(
    pool: Pool, store: EventStore, database_dsn: str, tmp_path: Path
) -> None:
    """What came before it is there, nothing after it, until software comes that knows it."""
    dice = random.Random(3)
    failed = asyncio.Event()
    told: list[str] = []

    def listen(_: object, level: str, event: EventDict) -> EventDict:
        if level == "error" and event["event"] == "consumer stopped":
            told.append(event["consumer"])
            if set(told) >= set(READ_MODELS):
                failed.set()
        raise structlog.DropEvent

    before, after = begin(dice), begin(dice)
    last_good = await record(store, before)
    strange = begin(dice)
    await store.append(
        strange.stream,
        [NewEvent(uuid.uuid4(), "notebook.painted.v1", b"{}", strange.at)],
        expected_version=0,
        metadata=METADATA,
    )
    head = await record(store, after)
    configured = structlog.get_config()
    structlog.configure(processors=[listen])
    try:
        async with running(roles.projector, make_settings(database_dsn, tmp_path)):
            async with asyncio.timeout(20):
                await failed.wait()
            await until_reached(pool, last_good)
            # Reactors have nothing to do with it.
            await until_reached(pool, head, deletions.NAME, eraser.NAME)
            for name in READ_MODELS:
                async with acquire(pool) as connection:
                    position = await connection.fetchval(
                        "SELECT position FROM projection_checkpoint WHERE name = $1", name
                    )
                assert position == last_good
                await assert_holds(
                    pool, name, await store.read_all(after_position=0, limit=last_good)
                )
    finally:
        structlog.configure(**configured)
    with pytest.raises(UnknownEventTypeError):
        await notebook_details.get(
            pool, strange.stream.tenant_id, strange.stream.project_id, strange.notebook.id
        )
    # The software has learnt the event, or it has been taken out.
    async with acquire(pool) as connection:
        await connection.execute(
            "UPDATE event SET type = 'notebook.deletion-requested.v1' "
            "WHERE type = 'notebook.painted.v1'"
        )
    await catch_up(pool)
    assert len((await contents(pool, "notebook_details"))["notebook_details"]) == 2


def scope(story: Story) -> Scope:
    return Scope(story.stream.tenant_id, story.stream.project_id, story.notebook.id)


async def test_what_is_deleted_is_erased(
    pool: Pool, store: EventStore, database_dsn: str, tmp_path: Path
) -> None:
    config = make_settings(database_dsn, tmp_path)
    artifacts = ArtifactStore(open_artifacts(config.artifacts.url))
    dice = random.Random(4)
    deleted, kept = begin(dice), begin(dice)
    for story in (deleted, kept):
        story.executions.append(request(story, dice))
        await record(store, story)
        complete(story, story.executions[0], 3)
    await record(store, deleted, kept)
    content = b"the same bytes in both"
    digest = await artifacts.put(scope(deleted), content)
    await artifacts.put(scope(kept), content)
    async with running(roles.projector, config):
        deleted.notebook.delete(at=deleted.at)
        head = await record(store, deleted)
        await until_reached(pool, head, eraser.NAME, *READ_MODELS)
        assert all(event.data is None for event in await store.read_subject(deleted.notebook.id))
        with pytest.raises(ArtifactMissingError):
            await artifacts.get(scope(deleted), digest)
        assert await artifacts.get(scope(kept), digest) == content
        assert all(event.data for event in await store.read_subject(kept.notebook.id))
        assert await mentions(database_dsn, deleted.notebook.id) == []
        # A run that had slipped in leaves nothing either, once it has ended.
        late = request(deleted, dice)
        deleted.executions.append(late)
        await record(store, deleted)
        late_digest = await artifacts.put(scope(deleted), b"late")
        async with asyncio.timeout(20), EventTail(pool, head) as tail:
            while (ended := (await tail.next_batch())[-1]).type != Execution.Cancelled.TYPE:
                pass
        await until_reached(pool, ended.position, eraser.NAME, *READ_MODELS)
        assert all(event.data is None for event in await store.read_subject(deleted.notebook.id))
        with pytest.raises(ArtifactMissingError):
            await artifacts.get(scope(deleted), late_digest)
        assert await mentions(database_dsn, deleted.notebook.id) == []
        # Nor does anything else that was decided at that moment, such as a trigger.
        subject = deleted.notebook.id
        stream = Stream(new_id(), subject, deleted.stream.tenant_id, deleted.stream.project_id)
        skipped = new_event(GOLDEN.joinpath("trigger.skipped.v1.json").read_bytes(), SKIPPED)
        told = await store.append(stream, [skipped], expected_version=0, metadata=METADATA)
        await until_reached(pool, told.position, eraser.NAME)
        assert all(event.data is None for event in await store.read_subject(subject))


async def mentions(dsn: str, notebook_id: UUID) -> list[str]:
    """The read models that have a row of this notebook."""
    tables = ("notebook_details", "notebook_list", "execution_status", "execution_results")
    async with connect(dsn) as connection:
        return [
            table
            for table in tables
            if await connection.fetchval(
                f"SELECT count(*) FROM {table} WHERE notebook_id = $1", notebook_id
            )
        ]


async def test_a_deletion_that_was_forced_goes_through(
    pool: Pool, store: EventStore, database_dsn: str, tmp_path: Path
) -> None:
    dice = random.Random(5)
    story = begin(dice)
    story.executions.append(request(story, dice))
    await record(store, story)
    story.notebook.request_deletion(at=story.at)
    await record(store, story)
    async with running(roles.projector, make_settings(database_dsn, tmp_path)):
        async with asyncio.timeout(20), EventTail(pool, 0) as tail:
            while DELETED not in {event.type for event in await tail.next_batch()}:
                pass
        await until_reached(pool, await store.head_position(), eraser.NAME, *READ_MODELS)
    assert await mentions(database_dsn, story.notebook.id) == []
