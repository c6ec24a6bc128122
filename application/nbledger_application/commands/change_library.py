"""Keep uploaded libraries, delete them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

from packaging.version import Version

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.keeping import remove_kept, save_new
from nbledger_application.commands.loading import load_library
from nbledger_application.preconditions import Precondition
from nbledger_domain.errors import LibraryExistsError
from nbledger_domain.execution import Representation
from nbledger_domain.library import Library
from nbledger_infrastructure.artifacts.store import ArtifactStore, file_digest
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.packages import uploads
from nbledger_infrastructure.packages.wheels import WHEEL, Wheel
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, IdempotencyKey


async def upload_library(
    pool: Pool,
    store: EventStore,
    artifacts: ArtifactStore,
    caller: Caller,
    *,
    wheel: Wheel,
    path: Path,
    file_name: str,
    key: IdempotencyKey | None = None,
) -> tuple[UUID, bool]:
    """Keep the wheel, then record the new library; returns its id, and whether it is new.

    It is not where the project has the same wheel. Raises :class:`LibraryExistsError` where it
    has another of the same name and version, and :class:`KeyUsedError` where an earlier request
    came with the same ``key``.
    """
    digest = await asyncio.to_thread(file_digest, path)
    async with acquire(pool) as connection:
        known = await _known(connection, caller, wheel, digest)
    if known is not None:
        return known, False
    library_id = new_id()
    size = path.stat().st_size  # noqa: ASYNC240 - a call that waits for nothing
    await artifacts.put_file(caller.scope(library_id), path, digest=digest)
    library = Library.upload(
        library_id,
        name=wheel.name,
        version=wheel.version,
        file_name=file_name,
        content=Representation(WHEEL, digest, size),
        requires_python=wheel.requires_python,
        dependencies=wheel.dependencies,
        at=now(),
    )
    recording = False
    try:
        async with _alone(pool, caller, wheel.name) as connection:
            known = await _known(connection, caller, wheel, digest)
            if known is None:
                recording = True
                await save_new(store, artifacts, caller, library, key=key)
    finally:
        if not recording:
            await remove_kept(artifacts, caller, library_id)
    return (library_id, True) if known is None else (known, False)


async def delete_library(
    store: EventStore, caller: Caller, library_id: UUID, *, precondition: Precondition
) -> None:
    """Delete the library; its data is erased soon after.

    Raises :class:`LibraryNotFoundError`, :class:`PreconditionFailedError`,
    :class:`RuledOutError`, and :class:`RecordConflictError` after ten lost races.
    """

    def delete(library: Library) -> None:
        precondition.check(library.version, library.modified_on, "library")
        library.delete(at=now())

    read = partial(load_library, store, caller, library_id)
    await repository.update_loaded(store, read, delete, caller.metadata())


async def _known(
    connection: PooledConnection, caller: Caller, wheel: Wheel, digest: str
) -> UUID | None:
    """The library that is this wheel already. Raises :class:`LibraryExistsError`."""
    for held in await uploads.held(connection, caller.tenant_id, caller.project_id, [wheel.name]):
        if Version(held.version) == Version(wheel.version):
            if held.content.digest != digest:
                raise LibraryExistsError(held.name, held.version, held.library_id)
            return held.library_id
    return None


@asynccontextmanager
async def _alone(pool: Pool, caller: Caller, name: str) -> AsyncIterator[PooledConnection]:
    """For the block nobody else records a library of this name in the project."""
    async with acquire(pool) as connection, connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"library {caller.tenant_id} {caller.project_id} {name}",
        )
        yield connection
