"""The notebook that a command is about, as the event store has it."""

from uuid import UUID

from nbledger_application import repository
from nbledger_domain.errors import NotebookNotFoundError
from nbledger_domain.notebook import Notebook
from nbledger_http.access import Access
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.event_store import EventStore


async def load_notebook(
    store: EventStore, access: Access, notebook_id: UUID, *, up_to_version: int | None = None
) -> Loaded[Notebook]:
    """The notebook, now or as it was at a version of its stream.

    Raises :class:`NotebookNotFoundError` where it is unknown, foreign, deleted or about to be.
    """
    loaded = await repository.load(store, Notebook, notebook_id, up_to_version=up_to_version)
    if (
        loaded is None
        or not access.owns(loaded.stream)
        or loaded.aggregate.deleted
        or loaded.aggregate.deletion_requested
    ):
        raise NotebookNotFoundError(notebook_id)
    return loaded
