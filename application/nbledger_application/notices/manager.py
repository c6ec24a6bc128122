"""The manager of notices: looks again and again for what people want to be told of.

What it has told is in the events, under ids that follow from what is told: a manager that is killed
is taken over by reading on, and of two that tell the same the store hears one.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nbledger_application.database_clock import Clock, database_time
from nbledger_application.following import Following
from nbledger_application.notices import failing_schedules
from nbledger_application.notices.folding import INTERESTS, NAME, NoticeFollower
from nbledger_application.notices.missing_workers import MissingWorkers
from nbledger_application.notices.slow_runs import SlowRuns
from nbledger_domain.execution.usual_durations import SlowRule
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Notices as NoticeSettings

LOOK_SECONDS: Final = 1.0
"""How often is looked, at the most."""

# Nearly always all of it is no, by indexes that hold nothing but what is looked for.
_TO_DO: Final = f"""
SELECT
    EXISTS (SELECT FROM execution_queue WHERE state = 'claimed'),
    EXISTS (SELECT FROM failing_schedule WHERE {failing_schedules.TO_TELL})
"""  # noqa: S608 (constants)


class NoticeManager:
    """Brings everything up to date at each :meth:`tick`; one process at a time should.

    ``now`` is the time that lengths of runs and outages go by, by default of the database.
    ``holds`` is asked before each step whether this process still is the one: it raises where it
    is not, and keeps the place of one that is. ``look_seconds`` is the least time between looks.
    """

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        settings: NoticeSettings,
        *,
        now: Clock = database_time,
        holds: Callable[[], Awaitable[Any]] | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._pool = pool
        self._store = store
        self._enabled = settings.enabled
        self._now = now
        self._holds = holds
        self._look_seconds = look_seconds
        self._next_look = float("-inf")
        follower = NoticeFollower(failures=settings.schedule_failures)
        self._following = Following(pool, NAME, INTERESTS, follower, holds)
        rule = SlowRule(settings.slow_factor, settings.slow_least_runs, settings.slow_least_seconds)
        self._slow_runs = SlowRuns(pool, store, rule, self._check)
        self._missing_workers = MissingWorkers(
            pool, store, self._check, seconds=settings.kernel_seconds
        )

    async def tick(self) -> float | None:
        """Tell what is to be told; returns nothing, as what follows is found by looking.

        Raises ``DatabaseUnavailableError``, ``StoreUnavailableError`` and
        ``CheckpointMovedError``; the next call goes on where this one was.
        """
        await self._check()
        if not self._enabled or time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + self._look_seconds
        await self._following.catch_up()
        async with acquire(self._pool) as connection:
            row = await connection.fetchrow(_TO_DO)
            now = await self._now(connection)
        assert row is not None  # noqa: S101 (a query of scalars has one row)
        running, failing = row
        if running:
            await self._slow_runs.look(now)
        if failing:
            await failing_schedules.look(self._pool, self._store, self._check)
        await self._missing_workers.look(now)
        return None

    async def _check(self) -> None:
        if self._holds is not None:
            await self._holds()
