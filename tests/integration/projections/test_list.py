"""The list against a naive model: every filter, every page."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import create_database, drop_database
from support.event_store import open_pool, open_store
from support.read_models import catch_up, naive_list
from support.stories import KERNELS, Story, begin, record, request

from nbledger_domain.execution import Resources, TerminationCode
from nbledger_domain.notebook import Integration, NotebookChanges
from nbledger_infrastructure.postgres.database import Pool, PooledConnection
from nbledger_projections.read_models.notebooks import list_items, listing
from nbledger_projections.read_models.notebooks.activity import NotebookStatus

TENANT = uuid.uuid4()
PROJECT, SMALL_PROJECT = uuid.uuid4(), uuid.uuid4()
SIZES = {PROJECT: 400, SMALL_PROJECT: 30}

FILTERS = [
    {"status": status, "kernel_type": kernel, "enrichment_mode": mode}
    for status, kernel, mode in itertools.product(
        [None, *NotebookStatus], [None, *KERNELS, "julia"], [None, True, False]
    )
]


class Listed:
    """Two projects of one tenant in a database, and what their lists should be."""

    def __init__(self, pool: Pool, loop: asyncio.Runner) -> None:
        self.pool = pool
        self.loop = loop
        self.expected: dict[UUID, list[list_items.NotebookItemDocument]] = {}
        self.position = 0

    def page(self, project_id: UUID, tenant_id: UUID = TENANT, **arguments: Any) -> Any:
        return self.loop.run(listing.page(self.pool, tenant_id, project_id, **arguments))

    def matching(self, project_id: UUID, filters: dict[str, Any]) -> list[Any]:
        return [
            item
            for item in self.expected[project_id]
            if filters["status"] in {None, item.status}
            and filters["kernel_type"] in {None, item.kernel_type}
            and filters["enrichment_mode"] in {None, item.enrichment_mode}
        ]


def _end(story: Story, status: NotebookStatus, dice: random.Random) -> None:
    """Bring the notebook to this status by a run."""
    execution = request(story, dice)
    story.executions.append(execution)
    if status is NotebookStatus.RUNNING:
        return
    epoch = execution.claim("worker-1", at=story.at)
    if status is NotebookStatus.ERROR:
        execution.fail(
            epoch,
            TerminationCode.CELL_ERROR,
            detail="KeyError",
            resources=Resources(),
            at=story.at,
        )
    elif status is NotebookStatus.KERNEL_DEAD:
        execution.kernel_died(epoch, detail="Killed", resources=Resources(), at=story.at)
    else:
        execution.complete(epoch, resources=Resources(), at=story.at)


async def _fill(pool: Pool, listed: Listed) -> None:
    dice = random.Random(20240120)
    async with open_store(pool) as store:
        stories = [
            begin(dice, tenant_id=TENANT, project_id=project)
            for project, size in SIZES.items()
            for _ in range(size)
        ]
        dice.shuffle(stories)
        await asyncio.gather(*(record(store, story) for story in stories))
        await catch_up(pool, listing.NAME, batch=37)
        for story in stories:
            if dice.random() < 0.4:
                _end(story, dice.choice(list(NotebookStatus)), dice)
            if dice.random() < 0.2:
                mode = dice.random() < 0.5
                integration = Integration(enrichment_mode=mode, output_format="enriched")
                story.notebook.update(NotebookChanges(integration=integration), at=story.at)
        await asyncio.gather(*(record(store, story) for story in stories))
        for story in stories:
            if not story.running and dice.random() < 0.1:
                story.notebook.delete(at=story.at)
        await asyncio.gather(*(record(store, story) for story in stories))
        listed.position = await catch_up(pool, listing.NAME, batch=61)
        events = await store.read_all(after_position=0, limit=100_000)
    for project in SIZES:
        listed.expected[project] = naive_list(
            [event for event in events if event.project_id == project]
        )


@pytest.fixture(scope="module")
def listed() -> Iterator[Listed]:
    dsn = create_database()
    with asyncio.Runner() as loop:
        stack = contextlib.AsyncExitStack()
        pool = loop.run(stack.enter_async_context(open_pool(dsn)))
        result = Listed(pool, loop)
        loop.run(_fill(pool, result))
        yield result
        loop.run(stack.aclose())
    drop_database(dsn)


def test_there_is_something_of_every_kind(listed: Listed) -> None:
    for filters in FILTERS:
        found = listed.matching(PROJECT, filters)
        assert bool(found) == (filters["kernel_type"] != "julia"), filters


@pytest.mark.parametrize("project_id", SIZES)
def test_every_filter_page_by_page(listed: Listed, project_id: UUID) -> None:
    for filters in FILTERS:
        expected = [msgspec.json.encode(item) for item in listed.matching(project_id, filters)]
        for page in range(len(expected) // 50 + 2):
            found = listed.page(project_id, page=page + 1, page_size=50, **filters)
            assert found.items == expected[page * 50 : page * 50 + 50]
            assert found.total_count == len(expected)
            assert found.position == listed.position


@given(
    filters=st.sampled_from(FILTERS),
    page=st.integers(1, 80),
    page_size=st.integers(1, 100),
    project_id=st.sampled_from(list(SIZES)),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_page(
    listed: Listed, filters: dict[str, Any], page: int, page_size: int, project_id: UUID
) -> None:
    expected = listed.matching(project_id, filters)
    found = listed.page(project_id, page=page, page_size=page_size, **filters)
    begin = (page - 1) * page_size
    assert found.items == [
        msgspec.json.encode(item) for item in expected[begin : begin + page_size]
    ]
    assert found.total_count == len(expected)


def test_a_foreign_tenant_or_project_sees_nothing(listed: Listed) -> None:
    for tenant, project in ((uuid.uuid4(), PROJECT), (TENANT, uuid.uuid4())):
        found = listed.page(project, tenant, page=1, page_size=20)
        assert (found.items, found.total_count) == ([], 0)


async def _blocks(connection: PooledConnection, page: int) -> int:
    plan = await connection.fetchval(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
        f"SELECT * FROM notebook_list_page('{TENANT}', '{PROJECT}', "
        f"NULL, NULL, NULL, {(page - 1) * 5}, 5)"
    )
    node = msgspec.json.decode(plan)[0]["Plan"]
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def test_a_page_far_down_reads_no_more_than_one_near_the_start(listed: Listed) -> None:
    """Buffers touched, as the database counts them: the same for every page, within a few."""

    async def touched(*pages: int) -> list[int]:
        # On one connection, and the least of a few: plans that are made anew read the catalogue.
        async with listed.pool.acquire() as connection:
            # Dead rows are read as well until they are swept, and so is the room that they leave in
            # indexes; how many there are depends on how much was written at once.
            await connection.execute("VACUUM (FULL, ANALYZE)")
            return [min([await _blocks(connection, page) for _ in range(4)]) for page in pages]

    pages = listed.loop.run(touched(5, 20, 40, 70))
    assert max(pages) <= pages[0] + 30, pages
