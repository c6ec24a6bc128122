"""Put input files beside a notebook, take them away."""

import asyncio
import mimetypes
from collections.abc import Sequence
from uuid import UUID

from msgspec import UNSET

from nbledger_application import repository
from nbledger_domain.errors import InputFileNotFoundError, NotebookNotFoundError
from nbledger_domain.input_files import FileLimits, InputFile
from nbledger_domain.notebook import Notebook
from nbledger_http.access import Access
from nbledger_http.commands.keeping import remove_kept
from nbledger_http.commands.load_notebook import load_notebook
from nbledger_http.conditional import NoneMatch, Precondition
from nbledger_http.problems import Code, Problem
from nbledger_infrastructure.artifacts import ArtifactStore, Scope, file_digest
from nbledger_infrastructure.bundles import SideFile
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.event_store import EventStore, RecordConflictError

ATTEMPTS = 10
CONCURRENT_PUTS = 4

_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
OTHER = "application/octet-stream"


async def put_files(
    store: EventStore,
    artifacts: ArtifactStore,
    access: Access,
    notebook_id: UUID,
    files: Sequence[SideFile],
    *,
    replace: bool,
    precondition: Precondition,
    limits: FileLimits,
    none_match: NoneMatch,
) -> set[str]:
    """Keep the files, then record that they are beside the notebook.

    Returns the paths at which no file was before. Raises :class:`NotebookNotFoundError`,
    :class:`InvalidFilesError`, :class:`InputFileExistsError`, :class:`FilesTooLargeError`,
    :class:`Problem` (412) when ``precondition`` or ``none_match`` does not hold, and
    :class:`RecordConflictError` after ten lost races. What is refused is refused before anything
    is kept; what was kept and then lost a race goes with the notebook.
    """
    told = await _told(files)

    async def changed() -> tuple[repository.Loaded[Notebook], set[str]]:
        loaded = await load_notebook(store, access, notebook_id)
        notebook = loaded.aggregate
        _check(precondition, notebook, [file.path for file in told])
        _check_none(none_match, notebook, [file.path for file in told])
        new = {file.path for file in told} - notebook.files.keys()
        notebook.put_files(told, replace=replace, limits=limits, at=now())
        return loaded, new

    await changed()
    await _keep(artifacts, access.scope(notebook_id), files, told)
    for attempt in range(ATTEMPTS):
        try:
            loaded, new = await changed()
        except NotebookNotFoundError:
            # Deleted meanwhile: whoever erased it did not know of these files.
            await remove_kept(artifacts, access, notebook_id)
            raise
        try:
            await repository.save(store, loaded.aggregate, loaded.stream, access.metadata())
        except RecordConflictError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return new
    raise AssertionError("unreachable")


async def remove_file(
    store: EventStore,
    access: Access,
    notebook_id: UUID,
    path: str,
    *,
    precondition: Precondition,
) -> None:
    """Take the file away; versions of the notebook that had it keep it.

    Raises :class:`NotebookNotFoundError`, :class:`InputFileNotFoundError`, :class:`Problem` (412)
    when ``precondition`` does not hold, and :class:`RecordConflictError` after ten lost races.
    """
    for attempt in range(ATTEMPTS):
        loaded = await load_notebook(store, access, notebook_id)
        notebook = loaded.aggregate
        if path not in notebook.files:
            raise InputFileNotFoundError(path)
        _check(precondition, notebook, [path])
        notebook.remove_file(path, at=now())
        try:
            await repository.save(store, notebook, loaded.stream, access.metadata())
        except RecordConflictError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return


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
    """The version of the notebook may be demanded, or the file's own entity tag."""
    if precondition.holds(notebook.version):
        return
    held = [notebook.files.get(path) for path in paths]
    if all(file is not None and precondition.names(file.digest) for file in held):
        return
    raise Problem(
        Code.PRECONDITION_FAILED,
        "Read the notebook or the file again and send the ETag that comes with it.",
    )


def _check_none(none_match: NoneMatch, notebook: Notebook, paths: Sequence[str]) -> None:
    for path in paths:
        held = notebook.files.get(path)
        if not none_match.holds(None if held is None else held.digest):
            raise Problem(
                Code.PRECONDITION_FAILED,
                f"There is a file at {path!r}, which If-None-Match rules out.",
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
