"""What readers see while the tables of a read model are exchanged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from support.event_store import connect
from support.paths import ROOT
from support.read_models import catch_up
from support.stories import begin, complete, record, request

from nbledger_domain.filtering import EVERYTHING
from nbledger_domain.past.moments import AtPosition
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.machinery import past
from nbledger_projections.machinery.past import Place
from nbledger_projections.read_models.executions import listing as executions
from nbledger_projections.read_models.executions import status
from nbledger_projections.read_models.executions.repetitions import chains, changes
from nbledger_projections.read_models.notebooks import listing as notebooks

PROJECT = UUID(int=1)
AHEAD = 1000

_WAITS = "SELECT FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted"


async def seen_across(
    pool: Pool, dsn: str, table: str, work: str, read: Callable[[], Awaitable[object]]
) -> object:
    """What ``read`` finds that comes while ``table`` is locked, and goes on when that is committed.

    ``work`` is done to its rows meanwhile, as it were by an exchange.
    """
    async with connect(dsn) as exchange:
        transaction = exchange.transaction()
        await transaction.start()
        await exchange.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.ensure_future(read())
        async with asyncio.timeout(20), acquire(pool) as connection:
            while not await connection.fetch(_WAITS, table):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        await exchange.execute(work)
        await exchange.execute(f"UPDATE projection_checkpoint SET position = position + {AHEAD}")
        await transaction.commit()
        async with asyncio.timeout(20):
            return await reading


@pytest.mark.guarantee("G52")
async def test_who_waits_for_an_exchange_sees_what_it_made(
    pool: Pool, store: EventStore, database_dsn: str
) -> None:
    """And nothing of the moment before: the new tables were not yet what they are."""
    dice = random.Random(1)
    story = begin(dice, tenant_id=PROJECT, project_id=PROJECT)
    first = request(story, dice)
    complete(story, first, 3)
    second = request(story, dice)
    story.executions += [first, second]
    await record(store, story)
    head = await catch_up(pool)
    notebook = (PROJECT, PROJECT, story.notebook.id)

    async def notebook_list() -> tuple[int, int]:
        page = await notebooks.page(pool, PROJECT, PROJECT, page=1, page_size=10)
        assert len(page.items) == page.total_count
        return page.position, page.total_count

    async def execution_list() -> tuple[int, int]:
        page = await executions.page(pool, PROJECT, PROJECT, EVERYTHING, size=10)
        return page.position, len(page.items)

    async def count() -> int:
        return await executions.count(pool, PROJECT, PROJECT, EVERYTHING, most=10)

    async def of_notebook() -> tuple[int, int]:
        page = await status.for_notebook(pool, *notebook, page=1, page_size=10)
        return page.position, page.total_count

    async def compared() -> object:
        run = await changes._run(store, second.id)
        assert run is not None
        return await changes._earlier_success(pool, run)

    async def chain() -> int:
        return (await chains.get(pool, *notebook, second.id)).count(b'"executionId"')

    place = Place(PROJECT, PROJECT, story.notebook.id, second.id, "execution")

    async def then() -> int:
        async with past.reading(pool, place, AtPosition(head), status.MODEL.tables) as (lent, _):
            return len(await lent.fetch("SELECT FROM execution_status"))

    assert (await notebook_list(), await execution_list()) == ((head, 1), (head, 2))
    assert (await compared(), await count(), await chain()) == (first.id, 2, 1)
    exchanges: list[tuple[str, str, Callable[[], Awaitable[object]], object]] = [
        (
            "notebook_list_count",
            "DELETE FROM notebook_list; DELETE FROM notebook_list_count",
            *(notebook_list, (head + AHEAD, 0)),
        ),
        (
            "execution_tag",
            "DELETE FROM execution_list WHERE status = 'Completed'",
            *(execution_list, (head + 2 * AHEAD, 1)),
        ),
        ("execution_list", "DELETE FROM execution_list", count, 0),
        ("execution_status", "SELECT", of_notebook, (head + 4 * AHEAD, 2)),
        ("execution_status", "UPDATE execution_status SET succeeded = NULL", compared, None),
        ("execution_status", "DELETE FROM execution_status", then, 0),
        ("execution_status", "SELECT", chain, 0),
    ]
    for table, work, read, expected in exchanges:
        assert await seen_across(pool, database_dsn, table, work, read) == expected, (table, read)


def test_several_statements_of_one_moment_lock_first() -> None:
    """Whoever takes a moment before the tables' locks would see what an exchange has not made."""
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ("projections", "http")
        for path in (ROOT / room).rglob("*.py")
        if "repeatable_read" in path.read_text()
    }
    # The last compares tables that are locked otherwise.
    base = Path("projections/nbledger_projections")
    assert found == {
        (base / "machinery/one_moment.py").as_posix(),
        (base / "verify.py").as_posix(),
    }
