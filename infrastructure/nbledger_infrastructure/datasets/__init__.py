"""Datasets as they are kept: which version is read, and its file for a run."""

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec

from nbledger_domain.dataset import Column, Dataset
from nbledger_domain.execution import Representation
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.postgres.event_store import EventStore


class DatasetHead(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a dataset, usually the newest; ``content`` is a Parquet file in ``scope``."""

    dataset_id: UUID
    name: str
    version: int
    content: Representation
    rows: int
    columns: list[Column]
    scope: Scope


async def head(
    store: EventStore,
    tenant_id: UUID,
    project_id: UUID,
    dataset_id: UUID,
    *,
    version: int | None = None,
) -> DatasetHead | None:
    """The newest version of a dataset, or the one asked for.

    ``None`` where it is not held: unknown, foreign, deleted, or without such a version.
    """
    loaded = await aggregates.load(store, Dataset, dataset_id)
    if loaded is None or loaded.aggregate.deleted:
        return None
    if (loaded.stream.tenant_id, loaded.stream.project_id) != (tenant_id, project_id):
        return None
    versions = loaded.aggregate.versions
    number = len(versions) if version is None else version
    if not 1 <= number <= len(versions):
        return None
    found = versions[number - 1]
    return DatasetHead(
        dataset_id=dataset_id,
        name=loaded.aggregate.name,
        version=found.number,
        content=found.content,
        rows=found.rows,
        columns=found.columns,
        scope=Scope(tenant_id, project_id, dataset_id),
    )


async def materialise(artifacts: ArtifactStore, dataset: DatasetHead, target: Path) -> None:
    """Write the Parquet file of ``dataset`` to ``target``, which may then only be read.

    A copy, never a link: whoever runs a notebook must not reach what is kept. Raises
    :class:`ArtifactMissingError`, and ``OSError`` when the file cannot be written.
    """
    await artifacts.get_file(dataset.scope, dataset.content.digest, target)
    await asyncio.to_thread(target.chmod, 0o444)
