"""The read model of triggers: as the events say, in whatever batches, and after a rebuild."""

from __future__ import annotations

from uuid import uuid4

from support.automation import add_version, automatic, automation
from support.event_store import open_pool, open_store
from support.read_models import assert_holds, catch_up, contents
from support.schedules import CALLER, SetClock, end_runs, requested

from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.preconditions import Precondition
from nbledger_projections import rebuild
from nbledger_projections.read_models import triggers


async def test_triggers_are_as_the_events_say(database_dsn: str) -> None:
    async with open_pool(database_dsn, max_size=8) as pool, open_store(pool) as store:
        now = SetClock()
        now.step(10)
        running = automation(pool, store, now)
        dataset = uuid4()
        kept, deleted, empty = [
            await automatic(store, dataset=dataset, cells=cells) for cells in (1, 1, 0)
        ]
        for _ in range(2):
            await add_version(store, dataset)
            await running.tick()
            for notebook_id in (kept, deleted):
                await end_runs(store, (await requested(store, notebook_id))[-1:])
        (last,) = (await requested(store, kept))[-1:]
        await add_version(store, dataset, by=last)
        await running.tick()
        await catch_up(pool, triggers.NAME, batch=3)
        events = await store.read_all(after_position=0, limit=1000)
        await assert_holds(pool, triggers.NAME, events)

        await delete_notebook(store, pool, CALLER, deleted, force=True, precondition=Precondition())
        await catch_up(pool)
        events = await store.read_all(after_position=0, limit=1000)
        await assert_holds(pool, triggers.NAME, events)
        place = (CALLER.tenant_id, CALLER.project_id)
        found = await triggers.triggers(pool, *place, kept, limit=10)
        assert [(each.outcome, each.reason or None) for each in found] == [
            ("skipped", "loop"),
            ("started", None),
            ("started", None),
        ]
        assert found[0].chains == [[kept]]
        assert [each.dataset_version for each in found] == [3, 2, 1]
        assert found[1].execution_id == last
        assert found[1].execution
        assert found[1].execution.termination_code == "success"
        (none,) = await triggers.triggers(pool, *place, empty, limit=1)
        assert none.reason == "nothing_to_execute"
        assert await triggers.triggers(pool, *place, deleted, limit=10) == []

        before = await contents(pool, triggers.NAME)
        await rebuild.rebuild_projections(pool, [triggers.NAME])
        assert await contents(pool, triggers.NAME) == before
