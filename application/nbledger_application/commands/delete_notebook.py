"""Delete a notebook."""

from functools import partial
from uuid import UUID

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.loading import load_notebook
from nbledger_application.preconditions import Precondition
from nbledger_application.reactions import deletions
from nbledger_domain.errors import NotebookExecutingError
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore


async def delete_notebook(
    store: EventStore,
    pool: Pool,
    caller: Caller,
    notebook_id: UUID,
    *,
    force: bool,
    precondition: Precondition,
) -> bool:
    """Delete the notebook; with ``force`` even while it executes.

    Returns whether it is gone. If not, its executions have been asked to end, and it goes with
    the last of them. Raises :class:`NotebookNotFoundError`, :class:`NotebookExecutingError`
    without ``force``, :class:`PreconditionFailedError`, :class:`RuledOutError`, and
    :class:`RecordConflictError` after ten lost races.
    """
    running: list[UUID] = []

    async def look() -> int | None:
        nonlocal running
        activity = await deletions.activity(pool, notebook_id)
        running = activity.running
        return None if running else activity.position

    def delete(notebook: Notebook) -> None:
        precondition.check(notebook.version, notebook.modified_on, "notebook")
        if running and not force:
            raise NotebookExecutingError(notebook_id, len(running))
        if running:
            notebook.request_deletion(at=now())
        else:
            notebook.delete(at=now())

    read = partial(load_notebook, store, caller, notebook_id)
    await repository.update_loaded(store, read, delete, caller.metadata(), guard=look)
    return not running or await deletions.advance(store, pool, notebook_id, caller.metadata())
