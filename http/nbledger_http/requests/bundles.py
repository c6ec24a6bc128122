"""A notebook that is uploaded, alone or with the files beside it, as it comes over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request

from nbledger_domain.errors import Fault, FilesTooLargeError, InvalidFilesError, InvalidInputError
from nbledger_domain.input_files import NOTEBOOK_SUFFIX, FileLimits
from nbledger_domain.vocabulary.units import MIB
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.requests.forms import Bounds, ReceivedFile, receive_files, upload_folder
from nbledger_http.requests.json_bodies import unstorable
from nbledger_http.requests.services import services_of
from nbledger_infrastructure import settings
from nbledger_infrastructure.notebooks.bundles import (
    ArchiveLimits,
    Bundle,
    SideFile,
    arrange,
    read_archive,
)

ZIP_SUFFIX = ".zip"
_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")


class ReceivedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """The text fields of the form, the notebook's name and content, and the files beside it."""

    fields: dict[str, str]
    file_name: str
    content: bytes
    files: list[SideFile]
    warnings: list[str]


def file_limits(http: settings.Http) -> FileLimits:
    """What one notebook may have of input files."""
    return FileLimits(count=http.max_input_files, total_bytes=http.max_input_mb * MIB)


@asynccontextmanager
async def received_bundle(request: Request[Any, Any, Any]) -> AsyncIterator[ReceivedBundle]:
    """The notebook that ``request`` carries; the files beside it are there for the block.

    Raises :class:`Problem` (413, 415, 503), :class:`InvalidInputError`,
    :class:`InvalidFilesError` and :class:`FilesTooLargeError`.
    """
    http = services_of(request).settings.http

    def each_mb(name: str) -> int:
        folded = name.casefold()
        if folded.endswith(NOTEBOOK_SUFFIX):
            return http.max_notebook_mb
        if folded.endswith(ZIP_SUFFIX):
            return http.max_notebook_mb + http.max_input_mb
        return max(http.max_notebook_mb, http.max_input_file_mb)

    bounds = Bounds(
        count=http.max_input_files + 1,
        total_mb=http.max_notebook_mb + http.max_input_mb,
        each_mb=each_mb,
    )
    async with upload_folder(request) as folder:
        form = await receive_files(request, folder, bounds)
        bundle = await _bundle(request, form.files, folder, http)
        yield ReceivedBundle(
            fields=form.fields,
            file_name=_checked_name(bundle.file_name),
            content=await _content(bundle.notebook, http.max_notebook_mb),
            files=bundle.files,
            warnings=bundle.warnings,
        )


async def _bundle(
    request: Request[Any, Any, Any],
    files: Sequence[ReceivedFile],
    folder: Path,
    http: settings.Http,
) -> Bundle:
    if len(files) > 1:
        return _of_parts(files, http)
    (file,) = files
    if not await asyncio.to_thread(_is_archive, file):
        return Bundle(file_name=file.name, notebook=file.path, files=[], warnings=[])
    limits = ArchiveLimits(
        notebook_bytes=http.max_notebook_mb * MIB,
        file_bytes=http.max_input_file_mb * MIB,
        files=file_limits(http),
    )
    async with services_of(request).inspections:
        return await asyncio.to_thread(read_archive, file.path, folder, limits)


def _of_parts(files: Sequence[ReceivedFile], http: settings.Http) -> Bundle:
    """The notebook among several files, and what lies beside it."""
    names = [file.name.casefold() for file in files]
    if any(name.endswith(ZIP_SUFFIX) for name in names) and not any(
        name.endswith(NOTEBOOK_SUFFIX) for name in names
    ):
        reason = "There is no notebook (.ipynb) among the files; a ZIP archive of one is sent alone"
        raise InvalidFilesError([Fault("/file", reason)])
    arranged = arrange([file.name for file in files])
    beside = [
        SideFile(path, files[place].path, files[place].size)
        for place, path in arranged.files.items()
    ]
    check_sizes(beside, http)
    notebook = files[arranged.notebook]
    return Bundle(
        file_name=notebook.name, notebook=notebook.path, files=beside, warnings=arranged.warnings
    )


def check_sizes(files: Sequence[SideFile], http: settings.Http) -> None:
    """Raise :class:`Problem` (413) for a file that is too large, and for too much in all."""
    for file in files:
        if file.size > http.max_input_file_mb * MIB:
            raise Problem(
                Code.BODY_TOO_LARGE,
                f"The file {file.path!r} may have at most {http.max_input_file_mb} MB.",
            )
    limits = file_limits(http)
    total = sum(file.size for file in files)
    if len(files) > limits.count or total > limits.total_bytes:
        raise FilesTooLargeError(
            f"A notebook may have at most {limits.count:,} input files with "
            f"{limits.total_bytes:,} bytes in all; these are {len(files):,} with {total:,}."
        )


def _is_archive(file: ReceivedFile) -> bool:
    if file.name.casefold().endswith(ZIP_SUFFIX):
        return True
    with file.path.open("rb") as content:
        return content.read(4) in _ZIP_BEGINS


async def _content(path: Path, limit_mb: int) -> bytes:
    content = await asyncio.to_thread(path.read_bytes)
    if len(content) > limit_mb * MIB:
        raise Problem(Code.BODY_TOO_LARGE, f"A notebook file may have at most {limit_mb} MB.")
    return content


def _checked_name(name: str) -> str:
    """The last part of a file's name, however its system writes paths."""
    last = name.replace("\\", "/").rpartition("/")[2][:255] or "notebook.ipynb"
    if next(unstorable(last), None) is not None:
        raise InvalidInputError([Fault("/file", "its name has characters that cannot be stored")])
    return last
