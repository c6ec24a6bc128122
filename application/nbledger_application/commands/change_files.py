"""Put input files beside a notebook, take them away."""

import asyncio
import mimetypes
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import msgspec
from msgspec import UNSET

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.keeping import remove_kept
from nbledger_application.commands.loading import load_notebook
from nbledger_application.preconditions import Precondition
from nbledger_domain.errors import InputFileNotFoundError, NotebookNotFoundError
from nbledger_domain.input_files import FileLimits, InputFile
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, file_digest
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.notebooks.bundles import SideFile
from nbledger_infrastructure.postgres.event_store import EventStore, IdempotencyKey

CONCURRENT_PUTS = 4

_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
OTHER = "application/octet-stream"


class FilesPut(msgspec.Struct, frozen=True):
    """The paths at which no file was before, and whether anything has changed."""

    new: set[str]
    changed: bool


async def put_files(
    store: EventStore,
    artifacts: ArtifactStore,
    caller: Caller,
    notebook_id: UUID,
    files: Sequence[SideFile],
    *,
    replace: bool,
    precondition: Precondition,
    limits: FileLimits,
    key_of: Callable[[FilesPut], IdempotencyKey | None] | None = None,
) -> FilesPut:
    """Keep the files, then record that they are beside the notebook.

    Raises :class:`NotebookNotFoundError`,
    :class:`InvalidFilesError`, :class:`InputFileExistsError`, :class:`FilesTooLargeError`,
    :class:`PreconditionFailedError`, :class:`RuledOutError`, :class:`KeyUsedError` where an
    earlier request came with the same key, which ``key_of`` gives by what is returned, and
    :class:`RecordConflictError` after ten lost races. What is refused is refused before anything
    is kept; what was kept and then lost a race goes with the notebook.
    """
    told = await _told(files)

    def put(notebook: Notebook) -> FilesPut:
        _check(precondition, notebook, [file.path for file in told])
        new = {file.path for file in told} - notebook.files.keys()
        changed = notebook.put_files(told, replace=replace, limits=limits, at=now())
        return FilesPut(new, changed)

    put((await load_notebook(store, caller, notebook_id)).aggregate)
    await _keep(artifacts, caller.scope(notebook_id), files, told)
    try:
        _, done = await repository.update_loaded(
            store,
            partial(load_notebook, store, caller, notebook_id),
            put,
            caller.metadata(),
            key_of=key_of,
        )
    except NotebookNotFoundError:
        # Deleted meanwhile: whoever erased it did not know of these files.
        await remove_kept(artifacts, caller, notebook_id)
        raise
    return done


async def remove_file(
    store: EventStore,
    caller: Caller,
    notebook_id: UUID,
    path: str,
    *,
    precondition: Precondition,
) -> None:
    """Take the file away; versions of the notebook that had it keep it.

    Raises :class:`NotebookNotFoundError`, :class:`InputFileNotFoundError`,
    :class:`PreconditionFailedError`, :class:`RuledOutError`, and :class:`RecordConflictError`
    after ten lost races.
    """

    def remove(notebook: Notebook) -> None:
        if path not in notebook.files:
            raise InputFileNotFoundError(path)
        _check(precondition, notebook, [path])
        notebook.remove_file(path, at=now())

    await repository.update_loaded(
        store, partial(load_notebook, store, caller, notebook_id), remove, caller.metadata()
    )


async def keep_files(
    artifacts: ArtifactStore, scope: Scope, files: Sequence[SideFile]
) -> list[InputFile]:
    """Keep the files; returns what is told of them."""
    told = await _told(files)
    await _keep(artifacts, scope, files, told)
    return told


def content_type_of(path: str) -> str:
    """The media type that the ending of the path stands for."""
    media_type, packed = mimetypes.guess_type(path)
    if packed is not None:
        return _PACKED.get(packed, OTHER)
    return media_type or OTHER


def _check(precondition: Precondition, notebook: Notebook, paths: Sequence[str]) -> None:
    for path in paths:
        held = notebook.files.get(path)
        precondition.check_file(
            notebook.version, notebook.modified_on, path, None if held is None else held.digest
        )


async def _told(files: Sequence[SideFile]) -> list[InputFile]:
    digests = [await asyncio.to_thread(file_digest, file.location) for file in files]
    return [
        InputFile(
            path=file.path,
            content_type=content_type_of(file.path),
            digest=digest,
            size=file.size,
            executable=file.executable or UNSET,
        )
        for file, digest in zip(files, digests, strict=True)
    ]


async def _keep(
    artifacts: ArtifactStore,
    scope: Scope,
    files: Sequence[SideFile],
    told: Sequence[InputFile],
) -> None:
    slots = asyncio.Semaphore(CONCURRENT_PUTS)

    async def keep(file: SideFile, digest: str) -> None:
        async with slots:
            await artifacts.put_file(scope, file.location, digest=digest)

    try:
        async with asyncio.TaskGroup() as group:
            for file, each in zip(files, told, strict=True):
                group.create_task(keep(file, each.digest))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
