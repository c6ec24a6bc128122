"""Make datasets, give them versions, delete them."""

from uuid import UUID

from nbledger_application import repository
from nbledger_domain.dataset import Dataset, Source
from nbledger_domain.errors import DatasetNotFoundError
from nbledger_domain.execution import Representation
from nbledger_http.access import Access
from nbledger_http.commands.keeping import save_new
from nbledger_http.conditional import Precondition
from nbledger_http.problems import Code, Problem
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.artifacts import ArtifactStore
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.datasets import PARQUET
from nbledger_infrastructure.datasets.ingest import Ingested
from nbledger_infrastructure.event_store import EventStore, RecordConflictError
from nbledger_infrastructure.identifiers import new_id

ATTEMPTS = 10


async def create_dataset(
    store: EventStore,
    artifacts: ArtifactStore,
    access: Access,
    ingested: Ingested,
    *,
    name: str,
    file_name: str,
) -> UUID:
    """Keep the table, then record the new dataset; returns its id.

    What was kept is removed again when it is certain that nothing was recorded.
    """
    dataset_id = new_id()
    content = await _kept(artifacts, access, dataset_id, ingested)
    dataset = Dataset.create(dataset_id, name=name, at=now())
    _add(dataset, content, ingested, file_name)
    await save_new(store, artifacts, access, dataset)
    return dataset_id


async def add_version(
    store: EventStore,
    artifacts: ArtifactStore,
    access: Access,
    dataset_id: UUID,
    ingested: Ingested,
    *,
    precondition: Precondition,
    file_name: str,
) -> None:
    """Keep the table, then record it as the newest version.

    Raises :class:`DatasetNotFoundError`, :class:`Problem` (412) when ``precondition`` does not
    hold, and :class:`RecordConflictError` after ten lost races.
    """
    await load_dataset(store, access, dataset_id, precondition)
    content = await _kept(artifacts, access, dataset_id, ingested)
    for attempt in range(ATTEMPTS):
        try:
            loaded = await load_dataset(store, access, dataset_id, precondition)
        except DatasetNotFoundError:
            # Deleted meanwhile: whoever erased it did not know of this file.
            await artifacts.delete_all(access.scope(dataset_id))
            raise
        _add(loaded.aggregate, content, ingested, file_name)
        try:
            await repository.save(store, loaded.aggregate, loaded.stream, access.metadata())
        except RecordConflictError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return


async def delete_dataset(
    store: EventStore, access: Access, dataset_id: UUID, *, precondition: Precondition
) -> None:
    """Delete the dataset; its data is erased soon after.

    Raises :class:`DatasetNotFoundError`, :class:`Problem` (412) when ``precondition`` does not
    hold, and :class:`RecordConflictError` after ten lost races.
    """
    for attempt in range(ATTEMPTS):
        loaded = await load_dataset(store, access, dataset_id, precondition)
        loaded.aggregate.delete(at=now())
        try:
            await repository.save(store, loaded.aggregate, loaded.stream, access.metadata())
        except RecordConflictError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return


async def load_dataset(
    store: EventStore,
    access: Access,
    dataset_id: UUID,
    precondition: Precondition | None = None,
) -> Loaded[Dataset]:
    """The dataset as the event store has it.

    Raises :class:`DatasetNotFoundError` where it is unknown, foreign or deleted, and
    :class:`Problem` (412) when ``precondition`` does not hold.
    """
    loaded = await repository.load(store, Dataset, dataset_id)
    if loaded is None or not access.owns(loaded.stream) or loaded.aggregate.deleted:
        raise DatasetNotFoundError(dataset_id)
    if precondition is not None and not precondition.holds(loaded.aggregate.version):
        raise Problem(
            Code.PRECONDITION_FAILED,
            "Read the dataset again and send the ETag that comes with it.",
        )
    return loaded


async def _kept(
    artifacts: ArtifactStore, access: Access, dataset_id: UUID, ingested: Ingested
) -> Representation:
    digest = await artifacts.put_file(access.scope(dataset_id), ingested.path)
    return Representation(PARQUET, digest, ingested.size)


def _add(dataset: Dataset, content: Representation, ingested: Ingested, file_name: str) -> None:
    dataset.add_version(
        content=content,
        rows=ingested.rows,
        columns=ingested.columns,
        source=Source(kind="upload", file_name=file_name),
        at=now(),
    )
