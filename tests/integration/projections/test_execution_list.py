"""The list of a project's executions: any filter, in SQL as in Python, page by page."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import listed_runs
from support.databases import create_database, drop_database
from support.event_store import open_pool
from support.filters import filters
from support.listed_runs import PROJECT, TENANT, Run

from nbledger_application.actions import targets
from nbledger_domain.filtering import EVERYTHING, Facts, Filter, matches, parse, printed
from nbledger_infrastructure.postgres.database import Pool, acquire, connect_pool
from nbledger_projections.machinery.one_moment import one_moment
from nbledger_projections.read_models.executions import listing
from nbledger_projections.read_models.executions.listing import COMPARED, LOOKED_AT, Cursor, Order

SEED = 11


class Filled:
    """A database with some hundred executions, and a loop to ask it in."""

    def __init__(self, dsn: str, count: int) -> None:
        self.runner = asyncio.Runner()
        self.pool: Pool = self.runner.run(connect_pool(dsn, max_size=2, application_name="test"))
        dice = random.Random(SEED)
        self.runs: list[Run] = []
        position = 0
        for _ in range(count):
            self.runs.append(listed_runs.drawn(dice, position))
            position += len(self.runs[-1].history)
        self.runner.run(listed_runs.project(self.pool, self.runs))
        self.facts: dict[UUID, Facts] = {
            run.execution.id: targets.facts(run.execution, run.history) for run in self.runs
        }

    def expected(self, wanted: Filter, order: Order = "-requested") -> list[UUID]:
        """By evaluating the filter in Python, in the order of the list."""
        found = [run for run in self.runs if matches(wanted, self.facts[run.execution.id])]
        found.sort(
            key=lambda run: (self.facts[run.execution.id].requested, run.history[0].position),
            reverse=order == "-requested",
        )
        return [run.execution.id for run in found]

    def paged(self, wanted: Filter, order: Order, size: int) -> list[UUID]:
        """By reading page after page."""
        return self.runner.run(read_all(self.pool, wanted, order, size))

    def close(self) -> None:
        self.runner.run(self.pool.close())
        self.runner.close()


async def read_all(
    pool: Pool, wanted: Filter, order: Order = "-requested", size: int = 20
) -> list[UUID]:
    found: list[UUID] = []
    after: Cursor | None = None
    while True:
        page = await listing.page(
            pool, TENANT, PROJECT, wanted, order=order, after=after, size=size
        )
        found += [_id(item) for item in page.items]
        if page.following is None:
            return found
        after = page.following


def _id(item: bytes) -> UUID:
    return UUID(msgspec.json.decode(item)["executionId"])


@pytest.fixture(scope="module")
def filled() -> Iterator[Filled]:
    dsn = create_database()
    database = Filled(dsn, 300)
    yield database
    database.close()
    drop_database(dsn)


MOST = 150


@given(wanted=filters, order=st.sampled_from(["-requested", "requested"]))
def test_sql_finds_what_python_finds(filled: Filled, wanted: Filter, order: Order) -> None:
    expected = filled.expected(wanted, order)
    assert filled.paged(wanted, order, 100) == expected, printed(wanted)
    oldest_first = filled.expected(wanted, "requested")
    some = filled.pool, TENANT, PROJECT, wanted
    assert filled.runner.run(listing.select(*some, most=MOST)) == oldest_first[: MOST + 1]
    assert filled.runner.run(listing.count(*some, most=MOST)) == min(len(expected), MOST + 1)


def test_a_page_is_bounded_and_pages_join(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where few rows are looked at for a page, pages are short, even empty, and miss nothing."""
    monkeypatch.setattr(listing, "LOOKED_AT", 7)
    monkeypatch.setattr(listing, "COMPARED", 3)
    for text in (
        "",
        "status = Error AND tag:nightly",
        "tag:nightly OR status = Cancelled",
        "NOT tag:* AND ended >= 2024-01-20T10:30:10Z AND ended < 2024-01-20T10:30:12Z",
        "requested >= 2024-01-20T10:30:20Z AND requested < 2024-01-20T10:30:40Z",
        'requestedBy = "nobody"',
    ):
        wanted = parse(text)
        for order in ("-requested", "requested"):
            assert filled.paged(wanted, order, 3) == filled.expected(wanted, order), text


def test_nothing_of_another_project_is_found(filled: Filled) -> None:
    other = filled.runner.run(listing.page(filled.pool, TENANT, uuid.uuid4(), EVERYTHING, size=10))
    assert (other.items, other.following) == ([], None)
    others = filled.pool, uuid.uuid4(), PROJECT, EVERYTHING
    assert filled.runner.run(listing.select(*others, most=1)) == []
    assert filled.runner.run(listing.count(*others, most=1)) == 0


async def test_an_item_and_its_filter_are_of_one_moment_and_go_with_the_notebook(
    database_dsn: str,
) -> None:
    dice = random.Random(SEED)
    async with open_pool(database_dsn) as pool:
        runs = [listed_runs.drawn(dice, 10 * number, tags=["a", "b", "a"]) for number in range(9)]
        await listed_runs.project(pool, runs)
        for run in runs:
            (item,) = [
                each
                for each in (await listing.page(pool, TENANT, PROJECT, EVERYTHING, size=20)).items
                if _id(each) == run.execution.id
            ]
            assert msgspec.json.decode(item)["status"] == run.execution.status
        assert len(await read_all(pool, parse("tag:a AND tag:b"))) == len(runs)
        async with acquire(pool) as connection:
            listed = await connection.fetchval("SELECT count(*) FROM execution_tag")
        assert listed == 2 * len(runs)


# What statements of pages read, where there are many rows: a walk along an index, ended by a limit.
MANY = 5_000
_FILL = """
INSERT INTO execution_list
SELECT id, $3, $1, $2, at, i, CASE WHEN i % 2 = 0 THEN 'Completed' ELSE 'Error' END, NULL,
    CASE WHEN i % 2 = 0 THEN 'success' ELSE 'cell_error' END, 'ann',
    CASE WHEN i % 2 = 0 THEN 'schedule' ELSE 'request' END, at, at,
    CASE WHEN i % 2 = 0 THEN '{even}'::text[] ELSE '{odd}' END || CASE WHEN i = 7 THEN '{rare}'
        ELSE '{}' END::text[]
FROM (
    SELECT i, gen_random_uuid() AS id, timestamptz '2024-01-20 10:30Z' + i * interval '1 s' AS at
    FROM generate_series(1, $4::integer) AS i
) AS made
"""
_FILL_TAGS = """
INSERT INTO execution_tag
SELECT execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position, tag
FROM execution_list, unnest(tags) AS tag
"""
_FILL_DOCUMENTS = """
INSERT INTO execution_status (
    execution_id, notebook_id, tenant_id, project_id, position, version, requested_position,
    updated_at, started_at, document, silent, request_warnings, until_snapshot
)
SELECT execution_id, notebook_id, tenant_id, project_id, requested_position, 1,
    requested_position, requested_at, requested_at, $1::json, '[]', '[]', 49152
FROM execution_list
"""


class Many:
    """A database with so many executions that a page must not read them all."""

    def __init__(self, dsn: str) -> None:
        self.runner = asyncio.Runner()
        self.pool: Pool = self.runner.run(connect_pool(dsn, max_size=2, application_name="test"))
        self.runner.run(self._fill())

    async def _fill(self) -> None:
        run = listed_runs.drawn(random.Random(SEED), 0)
        await listed_runs.project(self.pool, [run])
        async with acquire(self.pool) as connection:
            document = await connection.fetchval("SELECT document FROM execution_status")
            await connection.execute("TRUNCATE execution_list, execution_tag, execution_status")
            await connection.execute(_FILL, TENANT, PROJECT, run.execution.notebook_id, MANY)
            await connection.execute(_FILL_TAGS)
            await connection.execute(_FILL_DOCUMENTS, document)

    async def rows_read(self, wanted: Filter) -> int:
        """How many rows the statements of the first page read."""
        statements = listing._Statements(TENANT, PROJECT, wanted)
        routes = listing._routes(wanted)
        async with one_moment(self.pool, listing._TABLES, settings=listing._SETTINGS) as connection:
            route = await listing._shortest(connection, statements, routes, "-requested")
            asked = [
                statements.probe(routes, COMPARED),
                statements.page(route, 21),
                statements.probe([route], LOOKED_AT),
            ]
            plans = [
                await connection.fetchval(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters.values
                )
                for statement, parameters in asked
            ]
        return sum(_read(msgspec.json.decode(plan)[0]["Plan"]) for plan in plans)

    def close(self) -> None:
        self.runner.run(self.pool.close())
        self.runner.close()


def _read(node: dict[str, Any]) -> int:
    """Rows that a plan takes from tables and indexes, whatever becomes of them."""
    rows = 0
    if "Relation Name" in node:
        removed = node.get("Rows Removed by Filter", 0) + node.get(
            "Rows Removed by Index Recheck", 0
        )
        rows = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return round(rows) + sum(_read(each) for each in node.get("Plans", ()))


@pytest.fixture(scope="module")
def many() -> Iterator[Many]:
    dsn = create_database()
    database = Many(dsn)
    yield database
    database.close()
    drop_database(dsn)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "status = Error",
        'tag:"nobody has it"',
        "tag:rare",
        "tag:rare AND status = Error",
        "status = Error OR status = Cancelled",
        "terminationCode = success AND requestedBy = ann AND tag:even",
        # Each is half of all, and they never meet: all that a page may cost.
        "tag:odd AND cause = schedule",
        "NOT status = Error AND NOT status = Completed",
        "requested >= 2024-01-20T10:31:00Z AND requested < 2024-01-20T10:32:00Z",
        "ended >= 2024-01-20T10:31:00Z AND ended < 2024-01-20T10:32:00Z",
        "ended < 2024-01-20T10:31:00Z",
    ],
)
def test_a_page_reads_few_rows_of_many(many: Many, text: str) -> None:
    """Told by what the statements read, not by time: at no size do they read more."""
    wanted = parse(text)
    # Of each way as many as are compared, and of one as many as are looked at: as keys, as rows
    # of the list, and once more to find out where they end.
    bound = COMPARED * len(listing._routes(wanted)) + 4 * LOOKED_AT + 100
    assert bound < MANY / 2
    assert many.runner.run(many.rows_read(wanted)) <= bound
    found = many.runner.run(read_all(many.pool, wanted, size=100))
    counted = listing.count(many.pool, TENANT, PROJECT, wanted, most=MANY)
    assert len(found) == many.runner.run(counted)
