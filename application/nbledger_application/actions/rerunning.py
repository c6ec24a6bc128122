"""Rerunning many executions for one action, each once."""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from nbledger_application.actions import targets
from nbledger_application.actions.targets import Target, Work
from nbledger_application.caller import Caller
from nbledger_application.commands.rerun_execution import rerun_execution
from nbledger_application.concurrently import all_of
from nbledger_application.queue import ShareLimits
from nbledger_domain.errors import DomainError, ExecutionNotFoundError, ExecutionRunningError
from nbledger_domain.execution_action import PassedOver, rerun_id_of
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    RecordConflictError,
)
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Executions

AT_ONCE: Final = 32
"""So many executions are asked for again before that is recorded of the action."""

_SIDE_BY_SIDE: Final = 4

_NOTHING_TO_DO: Final = (ExecutionNotFoundError, ExecutionRunningError)


class _ForAction(Caller, frozen=True):
    """Who asked for the action, as far as the action goes."""

    told: Metadata | None = None

    def metadata(self) -> Metadata:
        """What events are recorded with."""
        return self.told or super().metadata()


async def rerun_some(
    store: EventStore,
    pool: Pool,
    work: Work,
    execution_ids: Sequence[UUID],
    *,
    executions: Executions,
    limits: ShareLimits,
) -> list[PassedOver | None]:
    """Ask for each again; of those that were passed over, why.

    The new run's id follows from the action and the execution: it is made once, however often this
    is called.
    """
    action, owner = work.action, work.stream
    found = await targets.find(store, owner, execution_ids)
    slots = asyncio.Semaphore(_SIDE_BY_SIDE)
    caller = _ForAction(
        actor=action.requested_by,
        roles=frozenset({Role.EDITOR}),
        tenant_id=owner.tenant_id,
        project_id=owner.project_id,
        request_id=str(action.id),
        told=work.metadata,
    )

    async def one(execution_id: UUID) -> PassedOver | None:
        target: Target | None = found.get(execution_id)
        if target is None:
            return _passed(execution_id, ExecutionNotFoundError(execution_id))
        try:
            async with slots:
                await rerun_execution(
                    *(store, pool, caller, target.notebook_id, execution_id),
                    executions=executions,
                    limits=limits,
                    new_execution_id=rerun_id_of(action.id, execution_id),
                )
        except DomainError as error:
            return _passed(execution_id, error)
        except RecordConflictError:
            return PassedOver(execution_id=execution_id, outcome="failed", reason="conflict")
        return None

    return await all_of(map(one, execution_ids))


def _passed(execution_id: UUID, error: DomainError) -> PassedOver:
    if isinstance(error, _NOTHING_TO_DO):
        return PassedOver(execution_id=execution_id, outcome="skipped", reason=error.code)
    return PassedOver(
        execution_id=execution_id, outcome="failed", reason=error.code, detail=error.detail
    )
