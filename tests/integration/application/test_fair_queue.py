"""Which run is next: fair between tenants, projects and notebooks, within limits."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from support.event_store import open_pool, open_store
from support.fair_queue import KEPT, enter, limit_notebook, move, run_of, shares
from support.waiting_runs import fill

from nbledger_application import queue, queue_places
from nbledger_application.queue import ShareLimits
from nbledger_domain.execution import PRIORITIES, Priority
from nbledger_infrastructure.postgres import database
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    LimitReachedError,
    Stream,
)

NORMAL: Sequence[Priority] = ("Normal",)


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    async with open_pool(database_dsn) as opened:
        yield opened


@pytest.fixture
async def store(pool: Pool) -> AsyncIterator[EventStore]:
    async with open_store(pool) as opened:
        yield opened


async def next_id(pool: Pool, **options: Any) -> UUID | None:
    found = await queue.next_waiting(pool, ["python3"], NORMAL, **options)
    return None if found is None else found.execution_id


class Model:
    """The order of turns, computed from all that has happened."""

    def __init__(self) -> None:
        self.waiting: list[Stream] = []
        self.running: list[Stream] = []
        self._came: dict[tuple[UUID, ...], int] = {}
        self._served: dict[tuple[UUID, ...], int] = {}
        self._clock = 0

    @staticmethod
    def keys(run: Stream) -> Sequence[tuple[UUID, ...]]:
        whole = (run.tenant_id, run.project_id, run.subject_id)
        return [whole[:1], whole[:2], whole]

    def enter(self, run: Stream) -> None:
        self._clock += 1
        self.waiting.append(run)
        for key in self.keys(run):
            self._came.setdefault(key, self._clock)

    def claim(self, run: Stream) -> None:
        self._clock += 1
        self.waiting.remove(run)
        self.running.append(run)
        for key in self.keys(run):
            self._served[key] = self._clock

    def next(self) -> Stream:
        running = Counter(key for run in self.running for key in self.keys(run))

        def rank(run: Stream) -> list[tuple[int, int, int]]:
            return [
                (
                    running[key],
                    key in self._served,
                    self._served.get(key, self._came[key]),
                )
                for key in self.keys(run)
            ]

        # The oldest of the notebook: the first of equals.
        return min(self.waiting, key=rank)


async def test_the_next_run_is_that_of_whoever_has_the_fewest_and_was_served_least_recently(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(21)
    tenants = [uuid4() for _ in range(3)]
    projects = {each: [uuid4() for _ in range(2)] for each in tenants}
    notebooks = {each: [uuid4() for _ in range(2)] for two in projects.values() for each in two}
    model = Model()
    for _ in range(160):
        if model.running and dice.random() < 0.3:
            ended = model.running.pop(dice.randrange(len(model.running)))
            await move(store, ended, "ended", version=2)
        elif model.waiting and (dice.random() < 0.5 or len(model.waiting) > 20):
            expected = model.next()
            assert await next_id(pool) == expected.stream_id
            await move(store, expected, "claimed")
            model.claim(expected)
        else:
            tenant = dice.choice(tenants)
            project = dice.choice(projects[tenant])
            run = run_of(tenant, project, dice.choice(notebooks[project]))
            await enter(store, run)
            model.enter(run)
    # Each waiting run knows its place: as many start up to it as it says.
    places = {}
    for run in model.waiting:
        place = await queue_places.find(pool, run.stream_id)
        assert place is not None
        places[run.stream_id] = place.position
    await _counted_anew(pool)
    started = 0
    while model.waiting:
        started += 1
        expected = model.next()
        assert places[expected.stream_id] == started
        assert await next_id(pool) == expected.stream_id
        await move(store, expected, "claimed")
        model.claim(expected)
    assert await next_id(pool) is None
    kept, counted = await shares(pool)
    assert kept == counted


async def _counted_anew(pool: Pool) -> None:
    """What is in the queue before shares are counted is counted by the migration."""
    script = Path(database.__file__).with_name("migrations") / "0017_fair_queue.sql"
    (counting,) = re.findall(r"(?m)^SELECT count_shares.*;$", script.read_text())
    async with acquire(pool) as connection:
        transaction = connection.transaction()
        await transaction.start()
        before = await connection.fetch(KEPT)
        await connection.execute("DELETE FROM queue_share")
        await connection.execute(counting)
        assert sorted(map(tuple, await connection.fetch(KEPT))) == sorted(map(tuple, before))
        await transaction.rollback()


@pytest.mark.guarantee("G30")
async def test_who_has_ten_thousand_waiting_delays_anothers_run_by_one_at_the_most(
    pool: Pool, store: EventStore
) -> None:
    """On one slot: the run that is under way ends, and then it is the other's turn."""
    crowd, single = uuid4(), uuid4()
    project, notebook = uuid4(), uuid4()
    crowding = [run_of(crowd, project, notebook) for _ in range(10_000)]
    await asyncio.gather(*(enter(store, run) for run in crowding))
    kept, counted = await shares(pool)
    assert kept == counted
    assert (10_000, 0) in {each[6:] for each in kept}
    by_id = {run.stream_id: run for run in crowding}
    for others in (
        (single, uuid4(), uuid4()),
        (crowd, uuid4(), uuid4()),
        (crowd, project, uuid4()),
    ):
        # Another tenant, another project of the tenant, another notebook of the project.
        for _ in range(2):
            busy = by_id[await next_id(pool) or uuid4()]
            await move(store, busy, "claimed")
            run = run_of(*others)
            await enter(store, run)
            assert await next_id(pool) == run.stream_id
            await move(store, busy, "ended", version=2)
            assert await next_id(pool) == run.stream_id, "also when nothing runs"
            await move(store, run, "claimed")
            assert (await next_id(pool)) in by_id
            await move(store, run, "ended", version=2)


async def test_priorities_and_kernel_types_are_looked_at_in_order(
    pool: Pool, store: EventStore
) -> None:
    tenant = uuid4()
    low, high, r = (run_of(tenant) for _ in range(3))
    await enter(store, low, priority="Low")
    await enter(store, r, kernel_type="r", priority="High")
    await enter(store, high, priority="High")

    async def found(kernel_types: list[str], *priorities: Any) -> UUID | None:
        chosen = await queue.next_waiting(pool, kernel_types, priorities)
        return None if chosen is None else chosen.execution_id

    assert await found(["python3"], *PRIORITIES) == high.stream_id
    assert await found(["python3"], "Low", "High") == low.stream_id
    assert await found(["python3"], "Normal") is None
    assert await found(["scala"], *PRIORITIES) is None
    assert await found(["r", "python3"], *PRIORITIES) in {r.stream_id, high.stream_id}
    # A crowd on one kernel type does not hold up another one on the same worker.
    await move(store, high, "claimed")
    for _ in range(3):
        await enter(store, run_of(tenant), priority="High")
    assert await found(["python3", "r"], *PRIORITIES) == r.stream_id


async def test_what_cannot_be_claimed_and_what_is_not_handed_back_yet_holds_up_nobody(
    pool: Pool, store: EventStore
) -> None:
    tenant, project, notebook = uuid4(), uuid4(), uuid4()
    first, second = (run_of(tenant, project, notebook) for _ in range(2))
    for run in (first, second):
        await enter(store, run)
    assert await next_id(pool) == first.stream_id
    assert await next_id(pool, passed_over=[first.stream_id]) == second.stream_id
    assert await next_id(pool, passed_over=[first.stream_id, second.stream_id]) is None
    async with acquire(pool) as connection:
        await connection.execute(
            "INSERT INTO execution_lease VALUES ($1, 1, 'worker-1', clock_timestamp())",
            first.stream_id,
        )
    assert await next_id(pool) == second.stream_id


@pytest.mark.guarantee("G32")
async def test_running_limits_hold_exactly_whoever_claims_at_once(database_dsn: str) -> None:
    tenant, project, notebook = uuid4(), uuid4(), uuid4()
    limits = {"tenant_limit": 5, "project_limit": 4}
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(open_pool(database_dsn)) for _ in range(3)]
        stores = [await stack.enter_async_context(open_store(each)) for each in pools]
        pool, store = pools[0], stores[0]
        await limit_notebook(store, notebook, 3)
        runs = (
            [run_of(tenant, project, notebook) for _ in range(12)]
            + [run_of(tenant, project) for _ in range(12)]
            + [run_of(tenant) for _ in range(12)]
            + [run_of(uuid4())]
        )
        await asyncio.gather(*(enter(store, run) for run in runs))

        async def claim(number: int, run: Stream) -> str:
            try:
                await move(stores[number % 3], run, "claimed", **limits)
            except LimitReachedError as error:
                return error.limit
            return "claimed"

        async def race(some: list[Stream]) -> Counter[str]:
            each = enumerate(some)
            return Counter(await asyncio.gather(*(claim(*one) for one in each)))

        assert await race(runs[:12]) == {"claimed": 3, "maxConcurrentRuns": 9}
        assert await race(runs[12:24]) == {"claimed": 1, "maxRunningPerProject": 11}
        assert await race(runs[24:36]) == {"claimed": 1, "maxRunningPerTenant": 11}
        assert await race(runs[36:]) == {"claimed": 1}

        # What is next knows the limits, and a limit that changes counts from then on.
        bounds = ShareLimits(tenant=5, project=4)
        assert await next_id(pool, limits=bounds) is None
        assert await next_id(pool, limits=ShareLimits(project=4)) in {
            run.stream_id for run in runs[24:36]
        }
        wider = ShareLimits(tenant=9, project=9)
        assert await next_id(pool, limits=wider) not in {run.stream_id for run in runs[:12]}
        await limit_notebook(store, notebook, 0, version=1)
        claimed = await _claim_all(pool, store, wider)
        assert len(claimed) == 4, "up to the tenant's limit"
        kept, counted = await shares(pool)
        assert kept == counted


async def _claim_all(pool: Pool, store: EventStore, limits: ShareLimits) -> list[UUID]:
    claimed = []
    while (found := await queue.next_waiting(pool, ["python3"], NORMAL, limits=limits)) is not None:
        run = Stream(found.execution_id, found.notebook_id, found.tenant_id, found.project_id)
        await move(store, run, "claimed", tenant_limit=limits.tenant, project_limit=limits.project)
        claimed.append(found.execution_id)
    return claimed


@pytest.mark.guarantee("G32")
async def test_waiting_limits_hold_exactly_whoever_asks_at_once(database_dsn: str) -> None:
    tenant, project = uuid4(), uuid4()
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(open_pool(database_dsn)) for _ in range(2)]
        stores = [await stack.enter_async_context(open_store(each)) for each in pools]

        async def ask(number: int, run: Stream) -> str:
            try:
                await enter(stores[number % 2], run, tenant_limit=7, project_limit=5)
            except LimitReachedError as error:
                return error.limit
            return "waits"

        async def race(*runs: Stream) -> Counter[str]:
            return Counter(await asyncio.gather(*(ask(*each) for each in enumerate(runs))))

        runs = [run_of(tenant, project) for _ in range(20)]
        assert await race(*runs) == {"waits": 5, "maxWaitingPerProject": 15}
        others = [run_of(tenant) for _ in range(20)]
        assert await race(*others) == {"waits": 2, "maxWaitingPerTenant": 18}
        assert await race(run_of(uuid4())) == {"waits": 1}
        # One that a worker takes makes room, and comes back in spite of the limit.
        found = await queue.next_waiting(pools[0], ["python3"], NORMAL)
        assert found is not None
        assert found.project_id == project
        taken = Stream(found.execution_id, found.notebook_id, tenant, project)
        await move(stores[0], taken, "claimed")
        assert await race(run_of(tenant, project)) == {"waits": 1}
        await move(stores[0], taken, "waiting", version=2, tenant_limit=1, project_limit=1)
        assert await race(run_of(tenant, project)) == {"maxWaitingPerProject": 1}


@pytest.mark.guarantee("G30")
async def test_the_next_run_is_found_by_a_few_pages_however_many_wait(
    pool: Pool, record_property: Callable[[str, object], None]
) -> None:
    """At 100,000 waiting runs, of thousands of tenants, or all of one notebook; 50 are claimed.

    So is the place of one of them.
    """
    await fill(pool, 50_000, kernel_type="python3", running=50, notebooks=5_000)
    await fill(pool, 50_000, kernel_type="r", notebooks=1, prefix="b")
    async with acquire(pool) as connection:
        for analyzed in (False, True):
            if analyzed:
                await connection.execute("ANALYZE execution_queue; ANALYZE queue_share")
            for kernel_types in (["python3"], ["r"], ["scala"], ["python3", "r", "scala"]):
                told = await connection.fetchval(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {queue._NEXT}",
                    *(kernel_types, list(PRIORITIES), 1_000, 1_000, []),
                )
                (plan,) = msgspec.json.decode(told)
                top = plan["Plan"]
                pages = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
                record_property(
                    f"{kernel_types}, analyzed {analyzed}", (pages, plan["Execution Time"])
                )
                assert pages < 1_000, (kernel_types, pages)
                assert top["Actual Rows"] == (kernel_types != ["scala"])
            for execution_id in (UUID("a" + f"{50_000:031x}"), UUID("b" + f"{50_000:031x}")):
                told = await connection.fetchval(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {queue_places._PLACE}",
                    *(execution_id, 1_000, 1_000),
                )
                (plan,) = msgspec.json.decode(told)
                top = plan["Plan"]
                pages = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
                record_property(f"place of {execution_id}", (pages, plan["Execution Time"]))
                assert pages < 5_000, (execution_id, pages, told)
