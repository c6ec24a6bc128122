"""Change a notebook."""

from typing import Any
from uuid import UUID

from nbledger_application import repository
from nbledger_domain.errors import StaleVersionError
from nbledger_http import requests
from nbledger_http.access import Access
from nbledger_http.commands.load_notebook import load_notebook
from nbledger_http.conditional import Precondition
from nbledger_http.problems import Code, Problem
from nbledger_infrastructure import settings
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.event_store import EventStore, RecordConflictError

ATTEMPTS = 10


async def update_notebook(
    store: EventStore,
    access: Access,
    notebook_id: UUID,
    body: dict[str, Any],
    precondition: Precondition,
    *,
    environments: settings.Environments,
) -> requests.Update:
    """Change what ``body`` names and leave the rest; returns what was asked for.

    Raises :class:`NotebookNotFoundError`, :class:`InvalidInputError`,
    :class:`StaleVersionError` when the body was read before the last change,
    :class:`Problem` (412) when ``precondition`` does not hold, and
    :class:`RecordConflictError` after ten lost races.
    """
    for attempt in range(ATTEMPTS):
        loaded = await load_notebook(store, access, notebook_id)
        notebook = loaded.aggregate
        if not precondition.holds(notebook.version):
            raise Problem(
                Code.PRECONDITION_FAILED,
                "Read the notebook again and send the ETag that comes with it.",
            )
        update = requests.update(body, notebook, environments=environments)
        if update.read_at is not None and notebook.modified_on >= update.read_at:
            raise StaleVersionError(
                "The notebook was changed after the dateModified in the body; read it again.",
                date_modified=notebook.modified_on,
            )
        if not notebook.update(update.changes, at=now()):
            return update
        try:
            await repository.save(store, notebook, loaded.stream, access.metadata())
        except RecordConflictError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return update
    raise AssertionError("unreachable")
