"""Delete a notebook."""

from uuid import UUID

from nbledger_application import repository
from nbledger_domain.errors import NotebookExecutingError
from nbledger_http.access import Access
from nbledger_http.commands.load_notebook import load_notebook
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.database import Pool
from nbledger_infrastructure.event_store import EventStore, RecordConflictError
from nbledger_projections import deletions

ATTEMPTS = 10


async def delete_notebook(
    store: EventStore, pool: Pool, access: Access, notebook_id: UUID, *, force: bool
) -> bool:
    """Delete the notebook; with ``force`` even while it executes.

    Returns whether it is gone. If not, its executions have been asked to end, and it goes with
    the last of them. Raises :class:`NotebookNotFoundError`, :class:`NotebookExecutingError`
    without ``force``, and :class:`RecordConflictError` after ten lost races.
    """
    for attempt in range(ATTEMPTS):
        activity = await deletions.activity(pool, notebook_id)
        loaded = await load_notebook(store, access, notebook_id)
        if activity.running and not force:
            raise NotebookExecutingError(notebook_id, len(activity.running))
        notebook = loaded.aggregate
        try:
            if activity.running:
                notebook.request_deletion(at=now())
                await repository.save(store, notebook, loaded.stream, access.metadata())
                return await deletions.advance(store, pool, notebook_id, access.metadata())
            notebook.delete(at=now())
            await repository.save(
                store,
                notebook,
                loaded.stream,
                access.metadata(),
                subject_unchanged_since=activity.position,
            )
        except RecordConflictError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return True
    raise AssertionError("unreachable")
