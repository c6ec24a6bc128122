"""The read model of schedules: as the events say, in whatever batches, and after a rebuild."""

from __future__ import annotations

from support.event_store import open_pool, open_store
from support.read_models import assert_holds, catch_up, contents
from support.schedules import CALLER, SetClock, reschedule, scheduled, scheduler

from nbledger_application.commands.change_schedule import pause_schedule
from nbledger_application.commands.delete_notebook import delete_notebook
from nbledger_application.preconditions import Precondition
from nbledger_domain.schedule import ScheduleSettings, ScheduleState
from nbledger_projections import rebuild
from nbledger_projections.read_models import schedules


async def test_schedules_and_firings_are_as_the_events_say(database_dsn: str) -> None:
    async with open_pool(database_dsn, max_size=8) as pool, open_store(pool) as store:
        now = SetClock()
        firing = scheduler(pool, store, now)
        every = ScheduleSettings(cron="* * * * *", overlap="queueOne")
        kept, paused, removed, deleted = [await scheduled(store, every) for _ in range(4)]
        for _ in range(3):
            await firing.tick()
            now.step(1)
        await pause_schedule(store, CALLER, paused, note=None)
        await reschedule(store, removed, None)
        await reschedule(store, kept, "CRON_TZ=Asia/Tokyo @daily")
        await firing.tick()
        await catch_up(pool, schedules.NAME, batch=7)
        events = await store.read_all(after_position=0, limit=1000)
        await assert_holds(pool, schedules.NAME, events)

        await delete_notebook(store, pool, CALLER, deleted, force=True, precondition=Precondition())
        await catch_up(pool, schedules.NAME)
        events = await store.read_all(after_position=0, limit=1000)
        await assert_holds(pool, schedules.NAME, events)
        place = (CALLER.tenant_id, CALLER.project_id)
        found = await schedules.page(pool, *place, page=1, page_size=10)
        assert found.total_count == 2
        assert {each.notebook_id: each.state for each in found.schedules} == {
            kept: ScheduleState.ACTIVE,
            paused: ScheduleState.PAUSED,
        }
        (listed,) = [each for each in found.schedules if each.notebook_id == kept]
        assert listed.settings.time_zone == "Asia/Tokyo"
        (first, *_) = await schedules.firings(pool, *place, paused, limit=2)
        assert (first.outcome, first.reason) == ("skipped", "paused")
        assert await schedules.firings(pool, *place, deleted, limit=2) == []

        before = await contents(pool, schedules.NAME)
        await rebuild.rebuild_projections(pool, [schedules.NAME])
        assert await contents(pool, schedules.NAME) == before
