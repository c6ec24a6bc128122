"""Rebuilding a read model beside the one in use."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from support.event_store import connect, open_pool, open_store
from support.read_models import all_contents, assert_holds, catch_up, running, until_reached
from support.roles import database_users
from support.stories import Story, begin, record, step

from nbledger import roles
from nbledger_domain.filtering import EVERYTHING
from nbledger_infrastructure import settings
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.machinery.positions import PositionWatch
from nbledger_projections.machinery.runner import PoisonedEventError
from nbledger_projections.read_models.executions import listing as executions
from nbledger_projections.read_models.executions import results as execution_results
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.notebooks import details as notebook_details
from nbledger_projections.read_models.notebooks import listing
from nbledger_projections.rebuild import (
    ALL,
    UnknownProjectionError,
    rebuild,
    rebuild_projections,
)
from nbledger_projections.rebuilding import tables
from nbledger_projections.rebuilding.progress import Progress
from nbledger_projections.rebuilding.tables import RebuildRunningError
from nbledger_projections.registry import READ_MODELS
from nbledger_projections.verify import verify

PROJECT = UUID(int=1)


def make_settings(dsn: str, folder: Path) -> settings.Settings:
    return settings.Settings(
        postgres=settings.Postgres(dsn=dsn),
        artifacts=settings.Artifacts(url=(folder / "artifacts").as_uri()),
    )


async def tell(store: EventStore, dice: random.Random, stories: list[Story], steps: int) -> int:
    """Let things happen to ``stories`` and to new ones; returns the last position."""
    position = 0
    for _ in range(steps):
        if not stories or dice.random() < 0.2:
            stories.append(begin(dice, tenant_id=PROJECT, project_id=PROJECT))
            position = await record(store, stories[-1])
        story = dice.choice(stories)
        step(story, dice)
        position = max(position, await record(store, story))
    return position


async def leftovers(pool: Pool) -> list[str]:
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild%'"
        )
    return [row[0] for row in rows]


# Of what columns no samples are taken, which would outlive the rows.
_UNSAMPLED = """
SELECT attrelid::regclass::text, attname FROM pg_attribute
WHERE attstattarget = 0 AND attrelid = ANY (
    SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace
) ORDER BY 1, 2
"""


@pytest.mark.guarantee("G21")
async def test_a_rebuild_gives_the_same_rows(
    pool: Pool, store: EventStore, database_dsn: str, tmp_path: Path
) -> None:
    dice = random.Random(1)
    await tell(store, dice, [], 150)
    await catch_up(pool, batch=17)
    before = await all_contents(pool)
    async with acquire(pool) as connection:
        indexes = await connection.fetch(
            "SELECT tablename, indexname, indexdef FROM pg_indexes ORDER BY 1, 2"
        )
        unsampled = await connection.fetch(_UNSAMPLED)
        assert ("execution_tag", "tag") in [tuple(each) for each in unsampled]
        # Whatever is wrong in the tables is gone afterwards.
        await connection.execute("UPDATE notebook_list SET item = '{}', status = 'Error'")
        await connection.execute("DELETE FROM execution_status")
    steps: list[Sequence[Progress]] = []
    positions = await rebuild(make_settings(database_dsn, tmp_path), [ALL], steps.append)
    assert await all_contents(pool) == before
    head = await store.head_position()
    assert positions == dict.fromkeys(READ_MODELS, head)
    last = {each.name: each for each in steps[-1]}
    assert {name: (each.phase, each.percent, each.position) for name, each in last.items()} == (
        dict.fromkeys(READ_MODELS, ("done", 100, head))
    )
    async with acquire(pool) as connection:
        assert indexes == await connection.fetch(
            "SELECT tablename, indexname, indexdef FROM pg_indexes ORDER BY 1, 2"
        )
        assert unsampled == await connection.fetch(_UNSAMPLED)
    assert await leftovers(pool) == []


class Readers:
    """Who read while tables are rebuilt: what each sees never goes back, and has what it wrote."""

    def __init__(self, pool: Pool, store: EventStore, done: asyncio.Event) -> None:
        self.pool, self.store, self.done = pool, store, done
        self.reads = 0
        self._seen: dict[str, tuple[int, int]] = {}

    def _goes_on(self, what: str, position: int, count: int) -> None:
        """Nothing is deleted here, so there are ever more."""
        before = self._seen.get(what, (0, 0))
        assert (position, count) >= before, what
        assert count >= before[1], what
        self._seen[what] = position, count

    async def look(self, known: UUID) -> None:
        """Ask for lists, a notebook and a status again and again."""
        while not self.done.is_set():
            view = await notebook_details.get(self.pool, PROJECT, PROJECT, known)
            assert view is not None
            self._goes_on("notebook", view.position, view.stream_version)
            page = await listing.page(self.pool, PROJECT, PROJECT, page=1, page_size=100)
            assert len(page.items) == min(page.total_count, 100)
            self._goes_on("list", page.position, page.total_count)
            runs = await execution_status.for_notebook(
                self.pool, PROJECT, PROJECT, known, page=1, page_size=100
            )
            assert len(runs.items) == min(runs.total_count, 100)
            self._goes_on("runs", runs.position, runs.total_count)
            every = await executions.page(self.pool, PROJECT, PROJECT, EVERYTHING, size=100)
            self._goes_on("executions", every.position, len(every.items))
            for item in every.items[:1]:
                await self._look_at_run(item)
            self.reads += 1
            await asyncio.sleep(0.01)

    async def _look_at_run(self, item: bytes) -> None:
        told = msgspec.json.decode(item)
        ids = (PROJECT, PROJECT, UUID(told["notebookId"]), UUID(told["executionId"]))
        status = await execution_status.get(self.pool, *ids)
        results = await execution_results.get(self.pool, *ids)
        assert status is not None
        assert results is not None
        self._goes_on(f"run {ids[3]}", status.position, status.version)
        assert results.version >= status.version

    async def write_and_look(self, dice: random.Random) -> None:
        """Make a notebook, wait until lists have come so far, and find it there."""
        async with PositionWatch(self.pool) as watch:
            while not self.done.is_set():
                story = begin(dice, tenant_id=PROJECT, project_id=PROJECT)
                position = await record(self.store, story)
                ids = (PROJECT, PROJECT, story.notebook.id)
                assert await notebook_details.get(self.pool, *ids) is not None
                assert await watch.reached(listing.NAME, position, 30)
                page = await listing.page(self.pool, PROJECT, PROJECT, page=1, page_size=100)
                assert page.position >= position
                found = [msgspec.json.decode(item)["notebookId"] for item in page.items]
                assert str(story.notebook.id) in found
                await asyncio.sleep(0.01)


@pytest.mark.guarantee("G21", "G52")
@pytest.mark.stalls("the exchange waits for readers in bounds of the clock")
async def test_rebuilding_under_load(database_dsn: str, tmp_path: Path) -> None:
    """Writers write, readers read, the projector projects: nobody notices, nothing is lost."""
    dice = random.Random(2)
    stories: list[Story] = []
    config = make_settings(database_dsn, tmp_path)
    done = asyncio.Event()

    async with open_pool(database_dsn, max_size=8) as pool, open_store(pool) as store:
        await tell(store, dice, stories, 60)
        known = stories[0].notebook.id
        readers = Readers(pool, store, done)

        async def write() -> None:
            while not done.is_set():
                await tell(store, dice, stories, 5)
                await asyncio.sleep(0.02)

        async with running(roles.projector, config), asyncio.TaskGroup() as group:
            await until_reached(pool, await store.head_position())
            group.create_task(write())
            group.create_task(readers.look(known))
            group.create_task(readers.write_and_look(random.Random(3)))
            read = ("notebook_details", "notebook_list", "execution_status", "execution_results")
            await rebuild(config, read)
            # Each for itself, side by side.
            again = ("notebook_list", "execution_status")
            await asyncio.gather(*(rebuild(config, [name]) for name in again))
            for each in await verify(config, again):
                assert each.equal, each
            done.set()
        assert readers.reads > 3
        async with running(roles.projector, config):
            head = await tell(store, dice, stories, 10)
            await until_reached(pool, head)
            events = await store.read_all(after_position=0, limit=100_000)
            for name in READ_MODELS:
                await assert_holds(pool, name, events)
        async with acquire(pool) as connection:
            generations = await connection.fetch(
                "SELECT name, generation FROM projection_checkpoint"
            )
        rebuilt = {row[0]: row[1] for row in generations if row[0] in read}
        assert rebuilt == dict.fromkeys(read, 1) | dict.fromkeys(again, 2)


async def test_a_live_projector_takes_the_new_tables_as_they_are(
    pool: Pool, store: EventStore
) -> None:
    """What it has in memory may not be what the rebuild has written: a fold may have changed."""
    dice = random.Random(3)
    stories: list[Story] = []
    await tell(store, dice, stories, 30)
    await catch_up(pool, "notebook_details")
    async with acquire(pool) as connection:
        generation = await connection.fetchval(
            "SELECT generation FROM projection_checkpoint WHERE name = 'notebook_details'"
        )
    await rebuild_projections(pool, ["notebook_details"])
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            "SELECT * FROM projection_checkpoint WHERE name = 'notebook_details'"
        )
    assert row is not None
    assert row["generation"] == generation + 1
    assert row["position"] == await store.head_position()


async def test_the_swap_waits_for_a_long_reader_and_lets_others_pass(
    pool: Pool, store: EventStore, database_dsn: str
) -> None:
    dice = random.Random(4)
    await tell(store, dice, [], 20)
    async with connect(database_dsn) as reader:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT * FROM notebook_list")
        waited = asyncio.Event()

        def progress(told: Sequence[Progress]) -> None:
            if told[0].phase == "waiting":
                waited.set()

        task = asyncio.create_task(rebuild_projections(pool, ["notebook_list"], progress))
        async with asyncio.timeout(20):
            await waited.wait()
        await tell(store, dice, [], 3)  # events that come while it waits
        await transaction.rollback()
        async with asyncio.timeout(20):
            await task
    events = await store.read_all(after_position=0, limit=1000)
    await assert_holds(pool, "notebook_list", events)


async def test_one_rebuild_of_a_read_model_at_a_time(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool, connect(database_dsn) as other:
        taken = "SELECT pg_try_advisory_lock($1, hashtext('notebook_list'))"
        assert await other.fetchval(taken, tables._LOCK)
        with pytest.raises(RebuildRunningError):
            await rebuild_projections(pool, ["notebook_list"])
        await rebuild_projections(pool, ["notebook_details"])


async def test_what_an_interrupted_rebuild_leaves_is_removed(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool:
        async with acquire(pool) as connection:
            for name in ("notebook_list", "notebook_details"):
                await connection.execute(
                    f"CREATE SCHEMA rebuild_{name}; CREATE TABLE rebuild_{name}.{name} (x int)"
                )
        await rebuild_projections(pool, ["notebook_list"])
        # Of this one and of the others.
        assert await leftovers(pool) == []


async def test_a_rebuild_that_fails_changes_nothing(pool: Pool, store: EventStore) -> None:
    dice = random.Random(5)
    await tell(store, dice, [], 20)
    await catch_up(pool)
    before = await all_contents(pool)
    async with acquire(pool) as connection:
        await connection.execute("UPDATE event SET type = 'x.painted.v1' WHERE position = 7")
    with pytest.raises(PoisonedEventError):
        await rebuild_projections(pool, ["execution_results"])
    assert await all_contents(pool) == before
    assert await leftovers(pool) == []


async def test_an_unknown_read_model_is_named(database_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownProjectionError, match="notebook_list"):
        await rebuild(make_settings(database_dsn, tmp_path), ["nonsense"])


async def test_an_erased_notebook_does_not_shift_the_others(pool: Pool, store: EventStore) -> None:
    """Deleted ones keep their number in the project, so that a rebuild counts alike."""
    dice = random.Random(6)
    stories = [begin(dice, tenant_id=PROJECT, project_id=PROJECT) for _ in range(40)]
    for story in stories:
        await record(store, story)
    for story in stories[::3]:
        story.notebook.delete(at=story.at)
        await record(store, story)
    await catch_up(pool)
    before = await all_contents(pool)
    for story in stories[::3]:
        await store.erase_subject(story.notebook.id)
    for name in READ_MODELS:
        await rebuild_projections(pool, [name])
    assert await all_contents(pool) == before
    page = await listing.page(pool, PROJECT, PROJECT, page=2, page_size=20)
    living = [story.notebook for story in stories if not story.notebook.deleted]
    expected = [str(notebook.id) for notebook in reversed(living)]
    assert [msgspec.json.decode(item)["notebookId"] for item in page.items] == expected[20:40]


async def test_what_others_were_granted_stays(pool: Pool, database_dsn: str) -> None:
    """LIKE takes over neither rights nor options; what reads with rights of its own goes on."""
    told = """
    SELECT relname, relacl::text, reloptions::text, (
        SELECT array_agg((attname, attacl, attoptions)::text ORDER BY attnum)
        FROM pg_attribute
        WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    ) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname = ANY($1) ORDER BY 1
    """
    names = READ_MODELS["execution_status"].tables
    async with database_users(database_dsn) as users, acquire(pool) as connection:
        await connection.execute(
            """
            ALTER TABLE execution_status SET (fillfactor = 70, autovacuum_enabled = false);
            ALTER TABLE execution_status ALTER COLUMN position SET (n_distinct = -0.5);
            GRANT SELECT (execution_id, tag) ON execution_tag TO PUBLIC;
            GRANT SELECT ON execution_list TO nbledger_auditor WITH GRANT OPTION
            """
        )
        before = await connection.fetch(told, names)
        await rebuild_projections(pool, ["execution_status"])
        after = await connection.fetch(told, names)
        assert [tuple(row) for row in after] == [tuple(row) for row in before]
        async with connect(users["api"]) as api:
            await api.execute("SELECT FROM execution_status, execution_list, execution_tag")


async def test_a_projector_without_the_right_leaves_what_a_killed_rebuild_left(
    pool: Pool, database_dsn: str, tmp_path: Path
) -> None:
    async with database_users(database_dsn) as users:
        async with acquire(pool) as connection:
            await connection.execute("CREATE SCHEMA rebuild_notebook_list")
        async with running(roles.projector, make_settings(users["projector"], tmp_path)):
            assert await leftovers(pool) == ["rebuild_notebook_list"]
        async with running(roles.projector, make_settings(database_dsn, tmp_path)):
            assert await leftovers(pool) == []
