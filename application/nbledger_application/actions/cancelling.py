"""Cancelling many executions for one action, each once."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from nbledger_application import repository
from nbledger_application.actions import targets
from nbledger_application.actions.targets import Work
from nbledger_application.concurrently import all_of
from nbledger_domain.execution import Execution
from nbledger_domain.execution_action import PassedOver
from nbledger_domain.filtering import EVERYTHING, Filter, matches
from nbledger_infrastructure import clock
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    RecordConflictError,
    RecordedEvent,
    Stream,
)

AT_ONCE: Final = 512
"""So many executions are cancelled at a time: their appends go in one batch."""

_NOT_USABLE: Final = "The filter cannot be read, so nothing tells whether the execution matches it."


async def cancel_some(
    store: EventStore, work: Work, wanted: Filter | None, execution_ids: Sequence[UUID]
) -> list[PassedOver | None]:
    """Ask each to stop; of those that were passed over, why.

    One that is no longer as ``wanted`` at the moment at which it would be asked is not; none is
    where ``wanted`` is ``None``, as it cannot be told.
    """
    found = await targets.find(store, work.stream, execution_ids)
    going = [key for key, each in found.items() if not (each.ended or each.ours)]
    histories = await store.read_streams(going)

    async def one(execution_id: UUID) -> PassedOver | None:
        target = found.get(execution_id)
        if target is None:
            return _skipped(execution_id, "execution_not_found")
        if target.ours:
            return None
        if target.ended:
            return _skipped(execution_id, "execution_ended")
        if wanted is None:
            return PassedOver(
                execution_id=execution_id,
                outcome="failed",
                reason="filter_not_usable",
                detail=_NOT_USABLE,
            )
        history = histories.get(execution_id, [])
        return await _cancel(store, work, target.stream, wanted, history)

    return await all_of(map(one, execution_ids))


async def _cancel(
    store: EventStore,
    work: Work,
    stream: Stream,
    wanted: Filter,
    history: Sequence[RecordedEvent],
) -> PassedOver | None:
    """Likewise, of one with this ``history``, or a longer one where somebody else was quicker."""

    async def once() -> PassedOver | None:
        nonlocal history
        if targets.is_ours(history, work.action.id):
            return None
        execution = targets.replayed(history)
        if execution is None:
            return _skipped(stream.stream_id, "execution_not_found")
        reason = _reason_against(execution, history, wanted)
        if reason is not None:
            return _skipped(stream.stream_id, reason)
        execution.request_cancel(requested_by=work.action.requested_by, at=clock.now())
        try:
            await repository.save(store, execution, stream, work.metadata)
        except RecordConflictError:
            history = await store.read_stream(stream.stream_id)
            raise
        return None

    try:
        return await repository.until_saved(once)
    except RecordConflictError:
        return PassedOver(execution_id=stream.stream_id, outcome="failed", reason="conflict")


def _reason_against(
    execution: Execution, history: Sequence[RecordedEvent], wanted: Filter
) -> str | None:
    if execution.ended:
        return "execution_ended"
    if wanted != EVERYTHING and not matches(wanted, targets.facts(execution, history)):
        return "no_longer_matches"
    return None if execution.cancel_reason is None else "already_cancelled"


def _skipped(execution_id: UUID, reason: str) -> PassedOver:
    return PassedOver(execution_id=execution_id, outcome="skipped", reason=reason)
