"""Change a notebook."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.loading import load_notebook
from nbledger_application.preconditions import Precondition
from nbledger_domain.errors import StaleVersionError
from nbledger_domain.notebook import Notebook, NotebookChanges
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.event_store import EventStore


class NotebookUpdate(msgspec.Struct, frozen=True):
    """What is to change, and when the caller's copy was last modified, where it says so."""

    changes: NotebookChanges
    read_at: datetime | None


U = TypeVar("U", bound=NotebookUpdate)


async def update_notebook(
    store: EventStore,
    caller: Caller,
    notebook_id: UUID,
    decide: Callable[[Notebook], U],
    precondition: Precondition,
) -> U:
    """Change what ``decide`` makes of the notebook as it is; returns what that was.

    Raises :class:`NotebookNotFoundError`, what ``decide`` raises, :class:`StaleVersionError` when
    the caller's copy is older than the last change, :class:`PreconditionFailedError`,
    :class:`RuledOutError`, and :class:`RecordConflictError` after ten lost races.
    """

    def change(notebook: Notebook) -> U:
        precondition.check(notebook.version, notebook.modified_on, "notebook")
        update = decide(notebook)
        if update.read_at is not None and notebook.modified_on >= update.read_at:
            raise StaleVersionError(
                "The notebook was changed after the dateModified in the body; read it again.",
                date_modified=notebook.modified_on,
            )
        notebook.update(update.changes, at=now())
        return update

    read = partial(load_notebook, store, caller, notebook_id)
    _, update = await repository.update_loaded(store, read, change, caller.metadata())
    return update
