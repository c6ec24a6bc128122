"""Make datasets, give them versions, delete them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

import msgspec

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.keeping import save_new
from nbledger_application.commands.loading import load_dataset
from nbledger_application.preconditions import Precondition
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.errors import DatasetNotFoundError
from nbledger_domain.execution import Representation
from nbledger_domain.vocabulary.media_types import PARQUET
from nbledger_infrastructure.aggregates import Loaded, replay
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    IdempotencyKey,
    Metadata,
    Stream,
)


class TableFile(msgspec.Struct, frozen=True):
    """A table in a Parquet file."""

    path: Path
    rows: int
    columns: Sequence[Column]


async def create_dataset(
    store: EventStore,
    artifacts: ArtifactStore,
    caller: Caller,
    table: TableFile,
    *,
    name: str,
    file_name: str,
    key: IdempotencyKey | None = None,
) -> UUID:
    """Keep the table, then record the new dataset; returns its id.

    What was kept is removed again when it is certain that nothing was recorded.
    Raises :class:`KeyUsedError` where an earlier request came with the same ``key``.
    """
    dataset_id = new_id()
    content = await _keep(artifacts, caller.scope(dataset_id), table)
    dataset = Dataset.create(dataset_id, name=name, at=now())
    _add(dataset, content, table, Source(kind="upload", file_name=file_name), now())
    await save_new(store, artifacts, caller, dataset, key=key)
    return dataset_id


async def add_version(
    store: EventStore,
    artifacts: ArtifactStore,
    caller: Caller,
    dataset_id: UUID,
    table: TableFile,
    *,
    precondition: Precondition,
    file_name: str,
) -> None:
    """Keep the table, then record it as the newest version.

    Raises :class:`DatasetNotFoundError`, :class:`PreconditionFailedError`,
    :class:`RuledOutError`, and :class:`RecordConflictError` after ten lost races.
    """

    async def read() -> Loaded[Dataset]:
        loaded = await load_dataset(store, caller, dataset_id)
        dataset = loaded.aggregate
        precondition.check(dataset.version, dataset.modified_on, "dataset")
        return loaded

    await _add_version(
        store,
        artifacts,
        caller.scope(dataset_id),
        read,
        table,
        source=Source(kind="upload", file_name=file_name),
        metadata=caller.metadata(),
        at=now(),
    )


async def add_version_of_run(
    store: EventStore,
    artifacts: ArtifactStore,
    notebook: Stream,
    table: TableFile,
    *,
    result_name: str,
    dataset_name: str,
    source: Source,
    metadata: Metadata,
    at: datetime,
) -> tuple[UUID, int]:
    """Keep a table that a run of the notebook made, as a version of its dataset.

    What a notebook hands back under one name is one dataset, whose versions its runs add.
    ``notebook`` is the stream of the notebook or of one of its executions. Returns the id of the
    dataset and the number of the version; a file that the same execution handed back last is no
    new version. Raises :class:`DatasetNotFoundError` where the dataset was deleted meanwhile, and
    :class:`RecordConflictError` after ten lost races.
    """
    assert source.execution_id is not None  # noqa: S101 - of every version that a run makes

    async def add_to(dataset_id: UUID) -> tuple[UUID, int]:
        stream = Stream(dataset_id, dataset_id, notebook.tenant_id, notebook.project_id)

        async def read() -> Loaded[Dataset]:
            history = await store.read_stream(dataset_id)
            dataset = replay(Dataset, history)
            if history and (dataset is None or dataset.deleted):
                raise DatasetNotFoundError(dataset_id)
            if dataset is None:
                return Loaded(Dataset.create(dataset_id, name=dataset_name, at=at), stream, 0)
            return Loaded(dataset, stream, history[-1].position)

        scope = Scope(notebook.tenant_id, notebook.project_id, dataset_id)
        number = await _add_version(
            store, artifacts, scope, read, table, source=source, metadata=metadata, at=at
        )
        return dataset_id, number

    try:
        return await add_to(await _dataset_id(store, notebook.subject_id, result_name))
    except DatasetNotFoundError:
        # Somebody has deleted that one: what comes later is another dataset.
        return await add_to(await _dataset_id(store, source.execution_id, result_name))


async def _dataset_id(store: EventStore, origin: UUID, result_name: str) -> UUID:
    """The id of what a notebook, or one of its executions, hands back under a name.

    Ids stay when data is erased. So the name is hashed with the salt of the first event of the
    ``origin``, which is erased with it: afterwards nobody can find the name by guessing.
    """
    salt = await store.first_salt(origin)
    if salt is None:
        return new_id()  # Erased: it will not be asked for again.
    namespace = UUID(bytes=salt) if salt else origin
    return uuid5(namespace, f"dataset:{result_name}")


async def delete_dataset(
    store: EventStore, caller: Caller, dataset_id: UUID, *, precondition: Precondition
) -> None:
    """Delete the dataset; its data is erased soon after.

    Raises :class:`DatasetNotFoundError`, :class:`PreconditionFailedError`,
    :class:`RuledOutError`, and :class:`RecordConflictError` after ten lost races.
    """

    def delete(dataset: Dataset) -> None:
        precondition.check(dataset.version, dataset.modified_on, "dataset")
        dataset.delete(at=now())

    read = partial(load_dataset, store, caller, dataset_id)
    await repository.update_loaded(store, read, delete, caller.metadata())


async def _add_version(
    store: EventStore,
    artifacts: ArtifactStore,
    scope: Scope,
    read: Callable[[], Awaitable[Loaded[Dataset]]],
    table: TableFile,
    *,
    source: Source,
    metadata: Metadata,
    at: datetime,
) -> int:
    """Keep the table, then record it as the newest version; returns the version's number."""
    await read()  # What is refused is refused before anything is kept.
    content = await _keep(artifacts, scope, table)
    try:
        _, number = await repository.update_loaded(
            store, read, lambda dataset: _add(dataset, content, table, source, at), metadata
        )
    except DatasetNotFoundError:
        # Deleted meanwhile: whoever erased it did not know of this file.
        await artifacts.delete_all(scope)
        raise
    return number


async def _keep(artifacts: ArtifactStore, scope: Scope, table: TableFile) -> Representation:
    size = (await asyncio.to_thread(table.path.stat)).st_size
    digest = await artifacts.put_file(scope, table.path)
    return Representation(PARQUET, digest, size)


def _add(
    dataset: Dataset, content: Representation, table: TableFile, source: Source, at: datetime
) -> int:
    """Add the version, unless a run hands back what it has handed back last; its number."""
    head = dataset.head
    if (
        head is not None
        and source.execution_id is not None
        and head.source.execution_id == source.execution_id
        and head.content.digest == content.digest
    ):
        return head.number
    return dataset.add_version(
        content=content, rows=table.rows, columns=table.columns, source=source, at=at
    )
