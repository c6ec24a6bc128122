"""What a command is about, as the event store has it: the caller's own, and still there."""

from uuid import UUID

from nbledger_application.caller import Caller
from nbledger_domain.dataset import Dataset
from nbledger_domain.errors import (
    DatasetNotFoundError,
    ExecutionNotFoundError,
    LibraryNotFoundError,
    NotebookNotFoundError,
)
from nbledger_domain.execution import Execution
from nbledger_domain.library import Library
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.postgres.event_store import EventStore


async def load_notebook(
    store: EventStore, caller: Caller, notebook_id: UUID, *, up_to_version: int | None = None
) -> Loaded[Notebook]:
    """The notebook, now or as it was at a version of its stream.

    Raises :class:`NotebookNotFoundError` where it is unknown, foreign, deleted or about to be.
    """
    loaded = await aggregates.load(store, Notebook, notebook_id, up_to_version=up_to_version)
    if (
        loaded is None
        or not caller.owns(loaded.stream)
        or loaded.aggregate.deleted
        or loaded.aggregate.deletion_requested
    ):
        raise NotebookNotFoundError(notebook_id)
    return loaded


async def load_execution(
    store: EventStore, caller: Caller, notebook_id: UUID, execution_id: UUID
) -> Loaded[Execution]:
    """The execution of a notebook, as it is now.

    Raises :class:`ExecutionNotFoundError` where it is unknown, foreign, of another notebook or
    erased.
    """
    loaded = await aggregates.load(store, Execution, execution_id)
    if (
        loaded is None
        or not caller.owns(loaded.stream)
        or loaded.aggregate.notebook_id != notebook_id
    ):
        raise ExecutionNotFoundError(execution_id)
    return loaded


async def load_dataset(store: EventStore, caller: Caller, dataset_id: UUID) -> Loaded[Dataset]:
    """The dataset.

    Raises :class:`DatasetNotFoundError` where it is unknown, foreign or deleted.
    """
    loaded = await aggregates.load(store, Dataset, dataset_id)
    if loaded is None or not caller.owns(loaded.stream) or loaded.aggregate.deleted:
        raise DatasetNotFoundError(dataset_id)
    return loaded


async def load_library(store: EventStore, caller: Caller, library_id: UUID) -> Loaded[Library]:
    """The library.

    Raises :class:`LibraryNotFoundError` where it is unknown, foreign or deleted.
    """
    loaded = await aggregates.load(store, Library, library_id)
    if loaded is None or not caller.owns(loaded.stream) or loaded.aggregate.deleted:
        raise LibraryNotFoundError(library_id)
    return loaded
