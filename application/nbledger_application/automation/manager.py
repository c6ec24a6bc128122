"""Automatic execution: notebooks run when what they are made of has changed.

Everything that it decides is an event of a trigger, whose id comes of the notebook and the first of
the changes: of two that decide one is heard. What it keeps follows from the events, so that one
that is killed at any point is taken over by reading on.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from nbledger_application.automation.following import INTERESTS, NAME, AutomationFollower
from nbledger_application.automation.recording import TriggerRecorder
from nbledger_application.automation.resting import Resting, is_away
from nbledger_application.automation.rows import TRIGGER, TriggerRow, trigger_row
from nbledger_application.concurrently import all_of
from nbledger_application.database_clock import Clock, database_time
from nbledger_application.following import Following
from nbledger_application.queue import Room, ShareLimits, waiting_room
from nbledger_application.starting import NOTEBOOKS_AT_ONCE
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

AT_ONCE: Final = 500
"""So many triggers are looked at by one statement."""

HELD_SECONDS: Final = 5
"""Where too many runs wait, a trigger is looked at again after this time."""

_IN_STATE: Final = f"""
SELECT {TRIGGER} FROM automation_trigger
WHERE state = $1 AND trigger_id <> ALL($2) LIMIT $3
"""  # noqa: S608 (constants)

_DUE: Final = f"""
SELECT {TRIGGER} FROM automation_trigger
WHERE state = 'gathering' AND due_at <= $1 AND trigger_id <> ALL($2)
ORDER BY due_at LIMIT $3
"""  # noqa: S608 (constants)

_TO_DO: Final = """
SELECT
    EXISTS (SELECT FROM automation_trigger WHERE state = 'starting'),
    EXISTS (SELECT FROM automation_trigger WHERE state = 'skipping'),
    (SELECT min(due_at) FROM automation_trigger WHERE state = 'gathering')
"""

_HOLD: Final = """
UPDATE automation_trigger SET due_at = $2, held = true
WHERE trigger_id = ANY($1) AND state = 'gathering'
"""


class Automation:
    """Starts what is due at each :meth:`tick`; of several processes one at a time should.

    ``holds`` is asked before each batch whether this process still is the one: it raises where it
    is not.
    """

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        settings: Settings,
        *,
        now: Clock = database_time,
        holds: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._pool = pool
        self._now = now
        self._holds = holds
        queue = settings.queue
        self._limits = ShareLimits.of(queue.max_waiting_per_tenant, queue.max_waiting_per_project)
        self._following = Following(pool, NAME, INTERESTS, AutomationFollower(pool, store), holds)
        self._recorder = TriggerRecorder(store, settings.execution)
        self._resting = Resting()

    async def tick(self) -> float | None:
        """Bring everything up to date; returns the seconds until something is due, if it will be.

        Raises ``DatabaseUnavailableError``, ``StoreUnavailableError`` and
        ``CheckpointMovedError``; the next call goes on where this one was.
        """
        await self._following.catch_up()
        starting, skipping, due, now = await self._to_do()
        if starting:
            await self._finish()
        if skipping:
            await self._skip()
        if due is not None and due <= now:
            await self._fire()
        if starting or skipping or (due is not None and due <= now):
            await self._following.catch_up()
            *_, due, now = await self._to_do()
        if due is None or due <= now:
            return None  # what is due all the same is stuck, and looked at with the next tick
        return (due - now).total_seconds()

    async def _to_do(self) -> tuple[bool, bool, datetime | None, datetime]:
        """Whether there are runs to ask for and skips to tell; what is due when; the time."""
        async with acquire(self._pool) as connection:
            row = await connection.fetchrow(_TO_DO)
            assert row is not None  # noqa: S101 (a query of scalars has one row)
            return *row, await self._now(connection)

    async def _in_state(self, state: str) -> list[TriggerRow]:
        if self._holds is not None:
            await self._holds()
        async with acquire(self._pool) as connection:
            rows = await connection.fetch(_IN_STATE, state, self._resting.ids(), AT_ONCE)
        return [trigger_row(row) for row in rows]

    async def _finish(self) -> None:
        """Ask for the runs of triggers that are started: a process may have ended before it did."""
        for row in await self._in_state("starting"):
            if await self._resting.attempt(row.trigger_id, self._recorder.finish(row)):
                log.info("run of a trigger asked for after all", trigger_id=str(row.trigger_id))

    async def _skip(self) -> None:
        """Tell of what nothing becomes."""
        rows = await self._in_state("skipping")
        await all_of(
            self._resting.attempt(
                row.trigger_id, self._recorder.skip(row, row.reason or "switched_off")
            )
            for row in rows
        )

    async def _fire(self) -> None:
        """Decide on all that is due by now, in batches.

        Notebooks are read of those triggers alone for which there is room, few at a time: what is
        put off costs little however large the notebooks are.
        """
        seen = self._resting.ids()
        while True:
            if self._holds is not None:
                await self._holds()
            async with acquire(self._pool) as connection:
                now = await self._now(connection)
                found = await connection.fetch(_DUE, now, seen, AT_ONCE)
            rows = [trigger_row(row) for row in found]
            if not rows:
                return
            seen += [row.trigger_id for row in rows]
            room = await waiting_room(
                self._pool, self._limits, {(row.tenant_id, row.project_id) for row in rows}
            )
            held: list[UUID] = []
            going: list[TriggerRow] = []
            for row in rows:
                if not room.take(row.tenant_id, row.project_id):
                    held.append(row.trigger_id)
                    continue
                going.append(row)
                if len(going) == NOTEBOOKS_AT_ONCE:
                    await self._decide_on(going, room)
                    going = []
            await self._decide_on(going, room)
            await self._hold(held, now)
            await self._following.catch_up()

    async def _decide_on(self, rows: Sequence[TriggerRow], room: Room) -> None:
        """Start the runs of these triggers, which have taken room; what is not used is given back.

        One with which that fails rests, and keeps no other waiting.
        """
        if not rows:
            return
        if self._holds is not None:
            await self._holds()
        notebooks = await self._notebooks(rows)
        started = await all_of(
            self._resting.attempt(row.trigger_id, self._decide(row, notebooks.get(row.notebook_id)))
            for row in rows
        )
        for row, starts in zip(rows, started, strict=True):
            if not starts:
                room.give_back(row.tenant_id, row.project_id)

    async def _notebooks(self, rows: Sequence[TriggerRow]) -> dict[UUID, Notebook]:
        """The notebooks of these triggers, without those that cannot be read."""
        try:
            return await self._recorder.notebooks([row.notebook_id for row in rows])
        except Exception as error:
            if is_away(error):
                raise
        found: dict[UUID, Notebook] = {}
        for row in rows:
            alone = self._recorder.notebooks([row.notebook_id])
            found |= await self._resting.attempt(row.trigger_id, alone) or {}
        return found

    async def _decide(self, row: TriggerRow, notebook: Notebook | None) -> bool:
        """Start a run, or not; returns whether it is started."""
        if notebook is None:
            return False  # it is being deleted, and its triggers with it, or cannot be read now
        if not notebook.cells:
            await self._recorder.skip(row, "nothing_to_execute")
            return False
        return await self._recorder.start(row, notebook)

    async def _hold(self, trigger_ids: list[UUID], now: datetime) -> None:
        if trigger_ids:
            log.info("automatic runs are put off: too many runs wait", triggers=len(trigger_ids))
            async with acquire(self._pool) as connection:
                again = now + timedelta(seconds=HELD_SECONDS)
                await connection.execute(_HOLD, trigger_ids, again)
