"""The process manager of actions on many executions: carries each out, some executions at a time.

Which actions there are, and how far each is, the events say. A checkpoint tells from where on there
may be some that have not ended. What it has done to an execution is
told by the execution's own events, so that one that is killed between the two is taken over by
reading on, and nothing is done twice.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import structlog

from nbledger_application import repository
from nbledger_application.actions import cancelling, rerunning
from nbledger_application.actions.targets import Work
from nbledger_application.queue import ShareLimits
from nbledger_domain.execution_action import ExecutionAction, PassedOver
from nbledger_domain.filtering import EVERYTHING, Filter, FilterError, parse
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.actors import ACTIONS
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    Pool,
    acquire,
)
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, moments
from nbledger_infrastructure.settings import Settings

log = structlog.get_logger(__name__)

NAME: Final = "execution-actions"
"""Of the checkpoint up to which every action has ended: who takes over begins there."""

KEPT_UNSAVED: Final = 5000
"""The checkpoint is written when it has come so many events further."""

SAVE_SECONDS: Final = 10.0
"""Seconds after which it is written even with fewer, so that it shows no lag at rest."""

REST_SECONDS: Final = 5.0
"""For so long an action is let be that could not go on."""

# The index of requested actions has this very condition; whether one has ended its own stream says.
_NEW: Final = f"""
SELECT asked.stream_id, asked.position, told.ended
FROM event AS asked
CROSS JOIN LATERAL (
    SELECT count(*) > 0 AS ended FROM event
    WHERE stream_id = asked.stream_id AND type = '{ExecutionAction.Ended.TYPE}'
) AS told
WHERE asked.type = '{ExecutionAction.Requested.TYPE}' AND asked.position > $1
ORDER BY asked.position
"""  # noqa: S608 (constants)


class ActionsManager:
    """Carries out actions at each :meth:`tick`; of several processes one at a time should.

    ``holds`` is asked before each batch whether this process still is the one: it raises where it
    is not.
    """

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        settings: Settings,
        *,
        holds: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._pool = pool
        self._store = store
        self._executions = settings.execution
        self._limits = ShareLimits.of(
            settings.queue.max_waiting_per_tenant, settings.queue.max_waiting_per_project
        )
        self._holds = holds
        self._saved: int | None = None
        self._saved_at = time.monotonic()
        self._position = 0
        self._open: dict[UUID, Loaded[ExecutionAction] | None] = {}
        # Where each of these was asked for.
        self._asked_at: dict[UUID, int] = {}
        self._rest: dict[UUID, float] = {}

    async def tick(self) -> float | None:
        """Do the next part of each action; returns 0 where there is more to do.

        Raises ``DatabaseUnavailableError`` and ``StoreUnavailableError``; the next call goes on
        where this one was.
        """
        await self._find()
        moved = 0
        for action_id in list(self._open):
            if self._rest.get(action_id, 0.0) > time.monotonic():
                continue
            if self._holds is not None:
                await self._holds()
            try:
                over = await self._advance(action_id)
            except (DatabaseUnavailableError, *UNAVAILABLE):
                self._open[action_id] = None
                raise
            except Exception:
                # One action that cannot go on now must not keep the others waiting.
                log.exception("execution action held up", action_id=str(action_id))
                self._open[action_id] = None
                self._rest[action_id] = time.monotonic() + REST_SECONDS
                continue
            moved += 1
            if over:
                del self._open[action_id]
                self._asked_at.pop(action_id, None)
                self._rest.pop(action_id, None)
        await self._save()
        return 0.0 if self._open and moved else None

    async def _find(self) -> None:
        """Look for actions that are new, or at first for all that may not have ended."""
        async with acquire(self._pool) as connection:
            if self._saved is None:
                self._saved = (await checkpoints.ensure(connection, NAME)).position
                self._position = self._saved
            head = await moments.head(connection)
            rows = await connection.fetch(_NEW, self._position)
        for row in rows:
            self._position = row["position"]
            if not row["ended"]:
                self._open.setdefault(row["stream_id"], None)
                self._asked_at[row["stream_id"]] = row["position"]
        self._position = max(self._position, head)

    async def _save(self) -> None:
        """Keep how far every action has ended. Of two at work each keeps only what is so."""
        through = min(self._asked_at.values(), default=self._position + 1) - 1
        assert self._saved is not None  # noqa: S101 (it has been looked for)
        least = 1 if time.monotonic() >= self._saved_at + SAVE_SECONDS else KEPT_UNSAVED
        if through < self._saved + least:
            return
        async with acquire(self._pool) as connection, connection.transaction():
            await checkpoints.move(connection, NAME, through)
        self._saved, self._saved_at = through, time.monotonic()

    async def _advance(self, action_id: UUID) -> bool:
        """Do the next part of an action; returns whether it is over."""
        loaded = self._open[action_id]
        if loaded is None:
            loaded = await aggregates.load(self._store, ExecutionAction, action_id)
        if loaded is None or loaded.aggregate.outcome is not None:
            return True
        action = loaded.aggregate
        size = cancelling.AT_ONCE if action.action == "cancel" else rerunning.AT_ONCE
        some = [] if action.cancel_requested else action.executions[action.through :][:size]
        told = await self._deal(loaded, some)
        saved = await self._record(loaded, told)
        self._open[action_id] = saved
        if saved.aggregate.outcome is None:
            return False
        log.info("execution action over", action_id=str(action_id), outcome=saved.aggregate.outcome)
        return True

    async def _deal(
        self, loaded: Loaded[ExecutionAction], some: Sequence[UUID]
    ) -> Sequence[PassedOver | None]:
        action = loaded.aggregate
        work = Work(action, loaded.stream, self._metadata(action))
        if not some:
            return []
        if action.action == "cancel":
            return await cancelling.cancel_some(self._store, work, _wanted(action), some)
        return await rerunning.rerun_some(
            *(self._store, self._pool, work, some),
            executions=self._executions,
            limits=self._limits,
        )

    async def _record(
        self, loaded: Loaded[ExecutionAction], told: Sequence[PassedOver | None]
    ) -> Loaded[ExecutionAction]:
        """Record what became of the next executions, unless somebody else has."""
        action_id, through = loaded.aggregate.id, loaded.aggregate.through
        passed = [each for each in told if each is not None]
        known: Loaded[ExecutionAction] | None = loaded

        async def read() -> Loaded[ExecutionAction]:
            nonlocal known
            read_before, known = known, None
            found = read_before or await aggregates.load(self._store, ExecutionAction, action_id)
            assert found is not None  # noqa: S101 (nothing erases an action)
            return found

        def change(action: ExecutionAction) -> None:
            if action.through == through:
                action.progress(len(told) - len(passed), passed, at=clock.now())

        saved, _ = await repository.update_loaded(
            self._store, read, change, self._metadata(loaded.aggregate)
        )
        return saved

    def _metadata(self, action: ExecutionAction) -> Metadata:
        return Metadata(
            actor=ACTIONS, correlation_id=str(action.id), on_behalf_of=action.requested_by
        )


def _wanted(action: ExecutionAction) -> Filter | None:
    """What the executions were found by, and have to be still; ``None`` if it cannot be told."""
    if action.filter is None:
        return EVERYTHING
    try:
        return parse(action.filter)
    except FilterError:
        # A field or value of another version: nothing may be done that it perhaps excludes.
        log.warning("filter not usable", action_id=str(action.id))
        return None
