"""Ask that something be done to many executions, or to no more of them."""

from collections.abc import Sequence
from uuid import UUID

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.idempotency import RequestKey
from nbledger_domain.errors import ActionNotFoundError
from nbledger_domain.execution_action import ActionKind, ExecutionAction
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import EventStore


async def request_action(
    store: EventStore,
    caller: Caller,
    action: ActionKind,
    executions: Sequence[UUID],
    *,
    wanted: str | None = None,
    key: RequestKey | None = None,
) -> UUID:
    """Record the request; returns the id of the action, which is carried out later.

    ``wanted`` is the filter that ``executions`` were found by. Raises :class:`KeyUsedError` where
    an earlier request came with the same ``key``.
    """
    action_id = new_id()
    made = ExecutionAction.request(
        action_id, action, executions, requested_by=caller.actor, at=now(), filter=wanted
    )
    await repository.save(
        store,
        made,
        caller.stream(action_id, action_id),
        caller.metadata(),
        key=None if key is None else key.answering({}),
    )
    return action_id


async def cancel_action(store: EventStore, caller: Caller, action_id: UUID) -> None:
    """Record that it is to be done to no more executions.

    Raises :class:`ActionNotFoundError`, :class:`ActionEndedError`, and
    :class:`RecordConflictError` after ten lost races.
    """

    async def read() -> Loaded[ExecutionAction]:
        loaded = await aggregates.load(store, ExecutionAction, action_id)
        if loaded is None or not caller.owns(loaded.stream):
            raise ActionNotFoundError(action_id)
        return loaded

    def request_cancel(action: ExecutionAction) -> None:
        action.request_cancel(requested_by=caller.actor, at=now())

    await repository.update_loaded(store, read, request_cancel, caller.metadata())
