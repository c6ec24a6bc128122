"""Ask for a run to stop."""

from uuid import UUID

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.loading import load_notebook
from nbledger_domain.errors import ExecutionNotFoundError, NotebookNotFoundError
from nbledger_domain.execution import Execution
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.event_store import EventStore


async def cancel_execution(
    store: EventStore, caller: Caller, notebook_id: UUID, execution_id: UUID
) -> None:
    """Record that the run is to stop.

    Raises :class:`ExecutionNotFoundError`, :class:`ExecutionEndedError`, and
    :class:`RecordConflictError` after ten lost races.
    """
    try:
        await load_notebook(store, caller, notebook_id)
    except NotebookNotFoundError:
        raise ExecutionNotFoundError(execution_id) from None

    async def read() -> Loaded[Execution]:
        loaded = await aggregates.load(store, Execution, execution_id)
        if (
            loaded is None
            or not caller.owns(loaded.stream)
            or loaded.aggregate.notebook_id != notebook_id
        ):
            raise ExecutionNotFoundError(execution_id)
        return loaded

    def request_cancel(execution: Execution) -> None:
        execution.request_cancel(requested_by=caller.actor, at=now())

    await repository.update_loaded(store, read, request_cancel, caller.metadata())
