"""The manager of notices on a real database: what is to be told is told once, and in time."""

from __future__ import annotations

import asyncio
import random
import secrets
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from support.aggregates import AT
from support.automation import automatic, automation
from support.notices import Ahead, Runs, manager, tick, told
from support.read_models import catch_up
from support.schedules import CALLER, SetClock, scheduled, scheduler

from nbledger_application.commands.change_schedule import resume_schedule
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.notices import failing_schedules
from nbledger_application.notices.manager import NoticeManager
from nbledger_application.notices.telling import tell
from nbledger_application.preconditions import Precondition
from nbledger_domain.execution import Cause, TerminationCode
from nbledger_domain.execution.usual_durations import Usual
from nbledger_domain.execution.values import CauseKind
from nbledger_domain.notices import RunNotice, kernel_notice_id, run_notice_id
from nbledger_domain.schedule import ScheduleSettings, schedule_id_of
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer
from nbledger_projections.read_models import notices


@pytest.fixture
def now() -> Ahead:
    return Ahead()


@pytest.fixture
def telling(pool: Pool, store: EventStore, now: Ahead) -> NoticeManager:
    return manager(pool, store, now)


async def tables(pool: Pool) -> list[int]:
    """How many rows there are of what notices are decided by."""
    async with acquire(pool) as connection:
        return [
            await connection.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("usual_duration", "failing_schedule", "kernel_outage")
        ]


@pytest.mark.guarantee("G36")
async def test_a_run_that_takes_longer_than_usual_is_told_of_once_while_it_goes_on(
    pool: Pool, store: EventStore, telling: NoticeManager, now: Ahead
) -> None:
    runs = Runs(store, await scheduled(store, None))
    await runs.completed(900, 1000, 1000, 1100)
    waiting, slow = await runs.ask(), await runs.begin()
    now.step(6000)
    await tick(telling)
    assert await told(store, runs.notebook_id) == [], "of four runs nothing is known yet"

    await runs.completed(1000)
    now.step(-4001)
    await tick(telling)
    assert await told(store, runs.notebook_id) == [], "within twice the usual"
    now.step(201)
    await tick(telling)
    ((what, data),) = await told(store, runs.notebook_id)
    assert what == "run-slow"
    assert data["executionId"] == str(slow)
    assert data["usual"] == {
        "runs": 5,
        "low": pytest.approx(1000, abs=10),
        "high": pytest.approx(1000, abs=10),
    }
    assert data["thresholdSeconds"] == pytest.approx(2000, abs=20)
    assert data["thresholdSeconds"] < data["seconds"] <= 2200
    (recorded,) = await store.read_stream(run_notice_id(slow))
    assert recorded.subject_id == runs.notebook_id
    assert recorded.metadata.actor == "notices"

    # Whoever looks again tells nothing, one that has just been started too, nor two at once.
    now.step(6000)
    other = manager(pool, store, now)
    await tick(telling)
    await asyncio.gather(other.tick(), manager(pool, store, now).tick(), return_exceptions=True)
    await runs.lose(slow)
    await runs.claim(slow)
    now.step(6000)
    await tick(other)
    await runs.end(slow)
    await tick(other)
    assert len(await told(store, runs.notebook_id)) == 1

    # Time in the queue does not count, and what has ended is told of no more.
    await runs.end(await runs.begin(), after=5000)
    await tick(other)
    assert len(await told(store, runs.notebook_id)) == 1
    await runs.claim(waiting)
    await tick(other)
    _, (_, data) = await told(store, runs.notebook_id)
    assert data["executionId"] == str(waiting)


async def test_what_is_usual_is_of_the_same_cells_and_of_runs_that_completed(
    pool: Pool, store: EventStore, telling: NoticeManager, now: Ahead
) -> None:
    notebook_id, other_id = await scheduled(store, None), await scheduled(store, None)
    runs, other = Runs(store, notebook_id), Runs(store, other_id)
    await runs.completed(1, 1, 1, 1, 1, cells="c0..c1")
    await runs.completed(100, 100, 100, 100, 100)
    for _ in range(9):
        await runs.failed(scheduled=False)
    await other.completed(0.1, 0.1, 0.1, 0.1, 0.1)
    whole, part, unknown = (
        await runs.begin(),
        await runs.begin(cells="c0..c1"),
        await runs.begin(cells="c1..c1"),
    )
    short = await other.begin()
    now.step(4.5)
    await tick(telling)
    assert await told(store, notebook_id) + await told(store, other_id) == [], "too short to tell"
    now.step(55)
    await tick(telling)
    found = await told(store, notebook_id) + await told(store, other_id)
    assert [data["executionId"] for _, data in found] == [str(part), str(short)]
    assert [data["thresholdSeconds"] for _, data in found] == [5.0, 5.0]
    now.step(200)
    await tick(telling)
    found = await told(store, notebook_id)
    assert [data["executionId"] for _, data in found] == [str(part), str(whole)]
    assert unknown not in {UUID(data["executionId"]) for _, data in found}


async def test_many_that_are_no_case_hide_none(
    pool: Pool,
    store: EventStore,
    telling: NoticeManager,
    now: Ahead,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nbledger_application.notices.slow_runs.PAGE", 2)
    runs = Runs(store, await scheduled(store, None))
    await runs.completed(1, 1, 1, 1, 1)
    await asyncio.gather(*(runs.begin(cells="a..b") for _ in range(7)))
    slow = {await runs.begin() for _ in range(5)}
    now.step(30)
    await tick(telling)
    found = {UUID(data["executionId"]) for _, data in await told(store, runs.notebook_id)}
    assert found == slow


async def test_a_busy_notebook_is_told_of_all_the_same(
    pool: Pool, store: EventStore, telling: NoticeManager, now: Ahead
) -> None:
    """Each append to the notebook's streams makes the manager look anew."""
    runs = Runs(store, await scheduled(store, None))
    await runs.completed(1, 1, 1, 1, 1)
    slow = await runs.begin()
    now.step(30)
    stop = asyncio.Event()

    async def busy() -> None:
        while not stop.is_set():
            await runs.completed(1)

    going = asyncio.create_task(busy())
    async with asyncio.timeout(30):
        while not await store.read_stream(run_notice_id(slow)):
            await tick(telling)
    stop.set()
    await going


async def test_a_run_that_ends_right_after_the_look_is_not_told_of(
    pool: Pool, store: EventStore
) -> None:
    runs = Runs(store, await scheduled(store, None))
    slow = await runs.begin()
    looks = 0

    async def goes_on() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            await runs.end(slow)
        return looks == 1

    def notice() -> RunNotice:
        return RunNotice.tell(
            slow,
            notebook_id=runs.notebook_id,
            started_at=AT,
            seconds=9.0,
            threshold_seconds=8.0,
            usual=Usual(5, 4.0, 4.0),
            at=AT,
        )

    stream = Stream(run_notice_id(slow), runs.notebook_id, CALLER.tenant_id, CALLER.project_id)
    metadata = Metadata(actor="test")
    assert await tell(store, pool, stream, notice, metadata=metadata, holds_true=goes_on) is False
    assert looks == 2
    assert await told(store, runs.notebook_id) == []


@pytest.mark.guarantee("G36")
async def test_automatic_runs_that_fail_are_told_of_once_until_one_succeeds(
    pool: Pool, store: EventStore, telling: NoticeManager, now: Ahead
) -> None:
    notebook_id = await automatic(store)
    await automation(pool, store, now).tick()
    runs = Runs(store, notebook_id)

    async def run(kind: CauseKind, code: TerminationCode | None) -> UUID:
        made = await runs.ask(cause=Cause(kind=kind))
        await runs.claim(made)
        await runs.end(made, code=code)
        return made

    failed = TerminationCode.CELL_ERROR
    first = await run("cells", failed)
    await run("request", failed)
    await run("rerun", failed)
    await run("dataset", failed)
    await tick(telling)
    assert await told(store, notebook_id) == [], "two of them"
    third = await run("cells", TerminationCode.KERNEL_DIED)
    await tick(telling)
    ((what, data),) = await told(store, notebook_id)
    assert (what, data["notebookId"]) == ("automation-failing", str(notebook_id))
    assert (data["failures"], data["terminationCode"]) == (3, "kernel_died")
    assert (data["firstExecutionId"], data["lastExecutionId"]) == (str(first), str(third))
    await run("dataset", failed)
    await tick(manager(pool, store, now))
    assert len(await told(store, notebook_id)) == 1

    await catch_up(pool, notices.NAME)
    page = await notices.page(
        *(pool, CALLER.tenant_id, CALLER.project_id, "automationFailing"), page=1, page_size=5
    )
    (listed,) = [msgspec.json.decode(item) for item in page.items]
    assert listed["text"] == (
        "Automatic execution fails: 3 runs have failed in a row, the last with kernel_died."
    )
    assert (listed["automation"]["failures"], listed["notebookId"]) == (3, str(notebook_id))

    await run("cells", None)
    for _ in range(3):
        await run("cells", failed)
    await tick(telling)
    assert len(await told(store, notebook_id)) == 2

    await delete_notebook(store, pool, CALLER, notebook_id, force=True, precondition=Precondition())
    await tick(telling)
    assert await tables(pool) == [0, 0, 0]


async def test_a_schedule_that_fails_is_told_of_once_until_it_succeeds(
    pool: Pool, store: EventStore, telling: NoticeManager, now: Ahead
) -> None:
    notebook_id = await scheduled(store, "0 2 * * *")
    firing = scheduler(pool, store, SetClock())
    await firing.tick()
    runs = Runs(store, notebook_id)

    first = await runs.failed()
    await runs.failed(scheduled=False)
    await runs.failed()
    cancelled = await runs.ask(scheduled=True)
    await runs.cancel(cancelled)
    await tick(telling)
    assert await told(store, notebook_id) == [], "two of them"
    third = await runs.failed()
    await tick(telling)
    ((what, data),) = await told(store, notebook_id)
    assert what == "schedule-failing"
    assert data["scheduleId"] == str(schedule_id_of(notebook_id))
    assert (data["failures"], data["terminationCode"]) == (3, "cell_error")
    assert (data["firstExecutionId"], data["lastExecutionId"]) == (str(first), str(third))

    for _ in range(4):
        await runs.failed()
        await tick(manager(pool, store, now))
    assert len(await told(store, notebook_id)) == 1
    series = await failing_schedules.series(pool, schedule_id_of(notebook_id))
    assert series is not None
    assert (series.failures, series.told) == (7, True)

    await runs.succeeded()
    await tick(telling)
    assert await failing_schedules.series(pool, schedule_id_of(notebook_id)) is None
    for _ in range(3):
        await runs.failed()
    await asyncio.gather(telling.tick(), manager(pool, store, now).tick(), return_exceptions=True)
    await tick(telling)
    assert len(await told(store, notebook_id)) == 2

    # With the notebook goes all that is kept of it; its notices are erased with the rest.
    await delete_notebook(store, pool, CALLER, notebook_id, force=True, precondition=Precondition())
    await tick(telling)
    assert await tables(pool) == [0, 0, 0]


async def test_what_pauses_a_schedule_is_told_of(
    pool: Pool, store: EventStore, telling: NoticeManager, now: Ahead
) -> None:
    every = ScheduleSettings(cron="0 2 * * *", pause_after_failures=2)
    notebook_id = await scheduled(store, every)
    firing = scheduler(pool, store, SetClock())
    await firing.tick()
    runs = Runs(store, notebook_id)
    for _ in range(2):
        await runs.failed()
    await tick(telling)
    assert [data["failures"] for _, data in await told(store, notebook_id)] == [2]
    # It is the same series, however often it is resumed.
    await resume_schedule(store, CALLER, notebook_id, note=None)
    for _ in range(2):
        await runs.failed()
    await tick(telling)
    assert len(await told(store, notebook_id)) == 1
    # Others, by the setting, are told of never.
    quiet = manager(pool, store, now, schedule_failures=0, slow_factor=0.0)
    plain = Runs(store, await scheduled(store, "0 2 * * *"))
    await firing.tick()
    for _ in range(5):
        await plain.failed()
    await tick(quiet)
    assert await told(store, plain.notebook_id) == []


PYTHON = WorkerOffer("python3", "python3", "python", "3.11")


@pytest.mark.guarantee("G36")
async def test_a_kernel_type_without_workers_is_told_of_to_each_project_concerned(
    pool: Pool, store: EventStore, telling: NoticeManager, now: Ahead
) -> None:
    other = msgspec.structs.replace(CALLER, tenant_id=uuid4(), project_id=uuid4())
    mine = Runs(store, uuid4(), kernel_type="r")
    theirs = Runs(store, uuid4(), caller=other, kernel_type="r")
    python = Runs(store, uuid4())
    await worker_registry.heartbeat(pool, "w1", [PYTHON], capacity=1)
    asked = [await mine.ask(), await mine.ask()]
    await python.ask()
    now.step(60)
    await tick(telling)
    now.step(29)
    await tick(telling)
    my_id = kernel_notice_id(CALLER.tenant_id, CALLER.project_id, "r")
    their_id = kernel_notice_id(other.tenant_id, other.project_id, "r")
    assert await told(store, my_id) == [], "perhaps it is only started anew"
    now.step(2)
    await asyncio.gather(telling.tick(), manager(pool, store, now).tick(), return_exceptions=True)
    ((what, data),) = await told(store, my_id)
    assert (what, data["kernelType"], data["waiting"]) == ("kernel-unavailable", "r", 2)
    assert data["waitingSince"] < data["since"]
    assert await told(store, their_id) == []

    # A project that comes later is told, too, and the first one not again.
    await theirs.ask()
    await tick(telling)
    ((_, data),) = await told(store, their_id)
    assert data["waiting"] == 1
    assert len(await told(store, my_id)) == 1
    (recorded,) = await store.read_stream(their_id)
    assert (recorded.tenant_id, recorded.project_id) == (other.tenant_id, other.project_id)

    # Nothing of the first waits any more; then a worker comes, and goes again.
    for each in asked:
        await mine.cancel(each)
    fresh = manager(pool, store, now)
    await tick(fresh)
    assert [what for what, _ in await told(store, my_id)][1:] == ["kernel-available"]
    assert (await told(store, my_id))[1][1]["reason"] == "nothing_waits"
    assert len(await told(store, their_id)) == 1
    offers = [PYTHON, WorkerOffer("r", "ir", "R", "4.3")]
    await worker_registry.heartbeat(pool, "w2", offers, capacity=1)
    await tick(fresh)
    await tick(fresh)
    assert [data.get("reason") for _, data in await told(store, their_id)] == [
        None,
        "worker_alive",
    ]
    assert await tables(pool) == [0, 0, 0]
    await worker_registry.remove(pool, "w2")
    await tick(fresh)
    now.step(31)
    await tick(fresh)
    assert [what for what, _ in await told(store, their_id)] == [
        "kernel-unavailable",
        "kernel-available",
        "kernel-unavailable",
    ]
    assert [what for what, _ in await told(store, my_id)][2:] == []


async def test_where_notices_are_off_nothing_is_read_or_told(
    pool: Pool, store: EventStore, now: Ahead
) -> None:
    runs = Runs(store, await scheduled(store, None))
    await runs.completed(1, 1, 1, 1, 1)
    await runs.begin()
    now.step(100)
    off = manager(pool, store, now, enabled=False)
    assert await off.tick() is None
    assert await told(store, runs.notebook_id) == []
    assert await tables(pool) == [0, 0, 0]


def slow_by(
    moment: datetime, begun: Mapping[UUID, datetime], lengths: Sequence[float]
) -> tuple[set[UUID], set[UUID]]:
    """The runs that take longer than usual by then: for sure, and perhaps.

    Runs of the test take some moments more than is said of them.
    """
    if len(lengths) < 5:
        return set(), set()
    high = statistics.quantiles(lengths[-20:], n=4, method="inclusive")[2]
    beyond = {each: (moment - at).total_seconds() - max(2 * high, 5) for each, at in begun.items()}
    return (
        {each for each, seconds in beyond.items() if seconds > 60},
        {each for each, seconds in beyond.items() if seconds > -60},
    )


@pytest.mark.guarantee("G36")
async def test_whatever_happens_each_is_told_once(
    pool: Pool, store: EventStore, now: Ahead
) -> None:
    """Random runs, ends, failures, clocks and managers, against what should be told by then."""
    seed = secrets.randbits(32)
    dice = random.Random(seed)
    notebook_id = await scheduled(store, "0 2 * * *")
    await scheduler(pool, store, SetClock()).tick()
    runs = Runs(store, notebook_id)
    begun: dict[UUID, datetime] = {}
    lengths: list[float] = []
    surely, perhaps = set[UUID](), set[UUID]()
    failures = series = 0
    managers = [manager(pool, store, now)]
    for step in range(60):
        match dice.choice(("begin", "begin", "end", "fail", "succeed", "clock", "manager")):
            case "begin":
                begun[await runs.begin()] = datetime.now(UTC)
            case "end" if begun:
                execution_id = dice.choice(list(begun))
                del begun[execution_id]
                lengths.append(dice.choice((1000, 2000, 9000)))
                await runs.end(execution_id, after=lengths[-1])
            case "fail":
                await runs.failed()
                failures += 1
                series += failures == 3
            case "succeed":
                # It is a run of the notebook like any other, and over at once.
                await runs.succeeded()
                lengths.append(0.0)
                failures = 0
            case "clock":
                now.step(dice.choice((500, 1500, 4000)))
            case "manager":
                managers = [*managers[-1:], manager(pool, store, now)]
        await tick(dice.choice(managers))
        sure, possible = slow_by(now.time, begun, lengths)
        surely |= sure
        perhaps |= possible
        found = await told(store, notebook_id)
        of_runs = [UUID(data["executionId"]) for what, data in found if what == "run-slow"]
        assert len(of_runs) == len(set(of_runs)), (seed, step)
        assert surely <= set(of_runs) <= perhaps, (seed, step)
        assert len(found) - len(of_runs) == series, (seed, step)
