"""The list of notices: as the events say, in whatever batches, and after a rebuild."""

from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest
from support.notices import Ahead, Runs, manager, tick
from support.read_models import assert_holds, catch_up, contents
from support.schedules import CALLER, SetClock, scheduled, scheduler

from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.preconditions import Precondition
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer
from nbledger_projections import rebuild
from nbledger_projections.machinery.documents import Page
from nbledger_projections.read_models import notices
from nbledger_projections.read_models.executions import status


@pytest.mark.guarantee("G20")
async def test_notices_are_as_the_events_say(pool: Pool, store: EventStore) -> None:
    now = Ahead()
    telling = manager(pool, store, now)
    kept = Runs(store, await scheduled(store, "0 2 * * *"))
    deleted = Runs(store, await scheduled(store, None))
    await scheduler(pool, store, SetClock()).tick()
    other = msgspec.structs.replace(CALLER, tenant_id=uuid4())
    for runs in (kept, deleted):
        await runs.completed(1, 1, 1, 1, 1)
    slow = await kept.begin()
    for runs in (kept, deleted):
        await runs.begin()
    for _ in range(3):
        await kept.failed()
    for caller in (CALLER, other):
        await Runs(store, uuid4(), caller=caller, kernel_type="r").ask()
    await tick(telling)
    now.step(60)
    await tick(telling)
    await worker_registry.heartbeat(pool, "w", [WorkerOffer("r", "ir", "R", "4.3")], capacity=1)
    await tick(telling)
    await catch_up(pool, notices.NAME, batch=3)
    await assert_holds(pool, notices.NAME, await store.read_all(after_position=0, limit=1000))

    async def listed(kind: notices.NoticeKind | None = None, size: int = 10, at: int = 1) -> Page:
        place = (CALLER.tenant_id, CALLER.project_id)
        return await notices.page(pool, *place, kind, page=at, page_size=size)

    page = await listed()
    told = [msgspec.json.decode(item, type=notices.NoticeDocument) for item in page.items]
    assert page.total_count == len(told) == 5
    positions = [each.position for each in told]
    assert positions == sorted(positions, reverse=True)
    assert {each.kind for each in told} == {"runSlow", "scheduleFailing", "kernelUnavailable"}
    (outage,) = [each for each in told if each.kind == "kernelUnavailable"]
    assert outage.kernel_type == "r"
    assert outage.kernel
    assert outage.kernel.over_reason == "worker_alive"
    assert (await listed("runSlow")).total_count == 3
    assert (await listed("runSlow", size=2, at=2)).items == [
        item for item in page.items if b'"runSlow"' in item
    ][2:]

    # The status of a run has it at once, from the event itself.
    place = (CALLER.tenant_id, CALLER.project_id)
    view = await status.get(pool, *place, kept.notebook_id, slow)
    assert view is not None
    assert view.slow
    document = msgspec.json.decode(view.document)
    assert document["durationWarning"]["usual"]["runs"] == 5
    assert [each for each in document["runWarnings"] if "longer than usual" in each]

    await delete_notebook(
        store, pool, CALLER, deleted.notebook_id, force=True, precondition=Precondition()
    )
    await catch_up(pool, notices.NAME)
    await assert_holds(pool, notices.NAME, await store.read_all(after_position=0, limit=1000))
    before = await contents(pool, notices.NAME)
    await rebuild.rebuild_projections(pool, [notices.NAME])
    assert await contents(pool, notices.NAME) == before
