"""Ask for a run to stop."""

from uuid import UUID

from nbledger_application import repository
from nbledger_domain.errors import ExecutionNotFoundError, NotebookNotFoundError
from nbledger_domain.execution import Execution
from nbledger_http.access import Access
from nbledger_http.commands.load_notebook import load_notebook
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.event_store import EventStore


async def cancel_execution(
    store: EventStore, access: Access, notebook_id: UUID, execution_id: UUID
) -> int:
    """Record that the run is to stop; returns the position of its last event.

    Raises :class:`ExecutionNotFoundError`, :class:`ExecutionEndedError`, and
    :class:`RecordConflictError` after ten lost races.
    """
    try:
        await load_notebook(store, access, notebook_id)
    except NotebookNotFoundError:
        raise ExecutionNotFoundError(execution_id) from None
    loaded = await repository.load(store, Execution, execution_id)
    if (
        loaded is None
        or not access.owns(loaded.stream)
        or loaded.aggregate.notebook_id != notebook_id
    ):
        raise ExecutionNotFoundError(execution_id)

    def request_cancel(execution: Execution) -> None:
        execution.request_cancel(requested_by=access.token.name, at=now())

    updated = await repository.update(
        store, Execution, execution_id, request_cancel, access.metadata()
    )
    if updated is None:
        raise ExecutionNotFoundError(execution_id)
    return updated[0].position
