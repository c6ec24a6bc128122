"""Forms with large files: their bytes go to files on disk as they come."""

import asyncio
import errno
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import structlog
from litestar import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.input_files import shown
from nbledger_domain.vocabulary.units import MIB
from nbledger_domain.words import listed
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.requests.concurrency import turn_of
from nbledger_http.requests.json_bodies import MAX_TOLD, escaped, unstorable
from nbledger_http.requests.services import services_of

log = structlog.get_logger(__name__)

MAX_PARTS = 100
MAX_FIELD_BYTES = 64 * 1024
RECEIVE_SECONDS = 60.0
"""A client that sends nothing for so long is waited for no longer."""

MIN_BYTES_PER_SECOND = 8 * 1024
"""Nor is one that is slower than this, once that time is over."""

_WRITE_BYTES = 1 << 20
# The parser takes the folders off such a name, as one old browser sent them.
_STAR_NAME = re.compile(r"filename\*=(?:utf-8|iso-8859-1)'[^']*'([^;\s]+)", re.IGNORECASE)
"""RFC 7578 forbids it, and older clients send names so that are not ASCII."""

_DRIVE_NAME = re.compile(r'filename="?((?:[A-Za-z]:\\|\\\\)[^"]*)')
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Form(msgspec.Struct, frozen=True):
    """The text fields of a form, and the file that it carries."""

    fields: dict[str, str]
    file_name: str
    path: Path


class ReceivedFile(msgspec.Struct, frozen=True):
    """A file of a form, or the body of a request: its name as it was sent, where it is now."""

    name: str
    path: Path
    size: int


class FileForm(msgspec.Struct, frozen=True):
    """The text fields of a form, and the files that it carries, at least one."""

    fields: dict[str, str]
    files: list[ReceivedFile]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How many files a form may carry, and how large they may be, in megabytes.

    ``each_mb`` gives the bound of one file by its name.
    """

    count: int
    total_mb: int
    each_mb: Callable[[str], int]


@asynccontextmanager
async def received(request: Request[Any, Any, Any], *, limit_mb: int) -> AsyncIterator[Form]:
    """The form with one file that ``request`` carries; that is there for the block.

    Raises what :func:`receive_files` does.
    """
    bounds = Bounds(count=1, total_mb=limit_mb, each_mb=lambda _: limit_mb)
    async with upload_folder(request) as folder:
        form = await receive_files(request, folder, bounds)
        (file,) = form.files
        name = file.name.replace("\\", "/").rpartition("/")[2][:255]
        yield Form(form.fields, name, file.path)


@asynccontextmanager
async def upload_folder(request: Request[Any, Any, Any]) -> AsyncIterator[Path]:
    """A folder for what ``request`` carries, for the block; waits while too many others do."""
    # Who sends slowly takes nobody's turn: uploads have places of their own.
    turn_of(request.scope).give_back()
    async with services_of(request).uploads, scratch_folder() as folder:
        yield folder


@asynccontextmanager
async def scratch_folder() -> AsyncIterator[Path]:
    """A folder for large files, whose removal holds up nobody."""
    folder = tempfile.TemporaryDirectory(prefix="nbledger-")
    try:
        yield Path(folder.name)
    finally:
        await asyncio.shield(asyncio.to_thread(folder.cleanup))


async def receive_files(request: Request[Any, Any, Any], folder: Path, bounds: Bounds) -> FileForm:
    """The form that ``request`` carries, its parts ``file`` in ``folder``.

    Raises :class:`Problem` (413, 415; 503 when the disk is full) and :class:`InvalidInputError`.
    """
    body = _BodyReader(request)
    try:
        parser = PushMultipartParser(
            _boundary(request), max_segment_count=MAX_PARTS + bounds.count - 1
        )
        receiving = _Receiving(folder, bounds)
        try:
            async for content in body:
                if body.size > (bounds.total_mb + 1) * MIB:
                    raise _too_large(bounds.total_mb, bounds.count)
                for part in parser.parse(content):
                    await receiving.take(part)
            parser.close()
        finally:
            receiving.close()
        return receiving.form()
    except MultipartError as error:
        raise _unreadable(_reason(error)) from None


async def receive_body(
    request: Request[Any, Any, Any], folder: Path, name: str, *, limit_mb: int
) -> ReceivedFile:
    """The body of ``request``, as a file in ``folder``.

    Raises :class:`Problem` (413, 415; 503 when the disk is full) and :class:`InvalidInputError`.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send the file without a content encoding.")
    writing = _Writing(folder / "upload", name, limit_mb)
    try:
        async for content in _BodyReader(request):
            await writing.take(content)
        await writing.flush()
    finally:
        writing.file.close()
    return ReceivedFile(name, writing.path, writing.size)


class _BodyReader:
    """The body of a request in pieces; ``size`` is that of those read so far.

    Raises :class:`InvalidInputError` when the client has gone, or is too slow.
    """

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        self._receive = request.receive
        self._ended = False
        self._began = time.monotonic()
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._ended:
            message = await self._next()
            if message["type"] != "http.request":
                self._ended = True
                raise _cut_off("the client has gone")
            content = message["body"]
            self._ended = not message["more_body"]
            self.size += len(content)
            if content:  # an empty piece would tell the parser of the end
                yield content

    async def _next(self) -> Any:
        spare = self._began + self.size / MIN_BYTES_PER_SECOND - time.monotonic()
        try:
            async with asyncio.timeout(RECEIVE_SECONDS + min(spare, 0)):
                return await self._receive()
        except TimeoutError:
            self._ended = True  # nobody waits for the rest of it either
            raise _cut_off("the client is too slow") from None


def _boundary(request: Request[Any, Any, Any]) -> str:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send the form without a content encoding.")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != "multipart/form-data":
        raise Problem(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Send multipart/form-data, with the content in a part named file.",
        )
    boundary: str = options.get("boundary", "")
    if not boundary or len(boundary) > 200 or not boundary.isascii():
        raise _unreadable("the content type names no boundary")
    return boundary


class _Writing:
    """One file while its bytes come."""

    def __init__(self, path: Path, name: str, limit_mb: int) -> None:
        self.name = name
        self.path = path
        self.file: FileIO = path.open("xb", buffering=0)
        self.size = 0
        self._limit_mb = limit_mb
        self._waiting = bytearray()

    async def take(self, content: bytes | bytearray) -> None:
        """Some more of it."""
        self.size += len(content)
        if self.size > self._limit_mb * MIB:
            named = f"The file {shown(self.name)}" if self.name else "The file"
            raise Problem(Code.BODY_TOO_LARGE, f"{named} may have at most {self._limit_mb} MB.")
        self._waiting += content
        if len(self._waiting) >= _WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what is waiting."""
        content, self._waiting = self._waiting, bytearray()
        try:
            await asyncio.to_thread(write_all, self.file, content)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            log.warning("no room for an upload", reason=error.strerror)
            raise Problem(Code.UNAVAILABLE, "There is no disk space for the file.") from error


class _Receiving:
    """The parts of a form as they come."""

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._part: MultipartSegment | None = None
        self._writing: _Writing | None = None
        self._field = bytearray()
        self._fields: dict[str, str] = {}
        self._repeated: set[str] = set()
        self._files: list[ReceivedFile] = []

    async def take(self, part: Any) -> None:
        """A part's head, some of its content, or ``None`` for its end."""
        if isinstance(part, MultipartSegment):
            self._part = part
            self._field.clear()
            if part.name == "file":
                self._begin_file(part)
        elif part is None:
            await self._end_part()
        elif self._writing is not None:
            await self._writing.take(part)
        else:
            self._field += part
            if len(self._field) > MAX_FIELD_BYTES and self._part is not None:
                reason = f"has more than {MAX_FIELD_BYTES:,} bytes"
                if self._part.filename is not None:
                    reason += "; a file is sent as a part with the name 'file'"
                raise InvalidInputError([Fault(f"/{escaped(self._part.name)}", reason)])

    def close(self) -> None:
        """No more comes."""
        if self._writing is not None:
            self._writing.file.close()

    def _begin_file(self, part: MultipartSegment) -> None:
        disposition = str(part.header("Content-Disposition", ""))
        name = _file_name(part, disposition)
        if name is None:
            raise InvalidInputError([Fault("/file", "must be sent with a file name")])
        if self._files and self._bounds.count == 1:
            raise InvalidInputError([Fault("/file", "is given more than once; send one file")])
        if len(self._files) == self._bounds.count:
            detail = f"At most {self._bounds.count} files can be sent at once."
            raise Problem(Code.FILES_TOO_LARGE, detail)
        path = self._folder / f"upload-{len(self._files)}"
        self._writing = _Writing(path, name, self._bounds.each_mb(name))

    async def _end_part(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                await writing.flush()
            finally:
                writing.file.close()
            # A browser sends a part without name and content where no file was chosen.
            if writing.name or writing.size:
                self._files.append(ReceivedFile(writing.name, writing.path, writing.size))
            else:
                writing.path.unlink()
        elif self._part is not None:
            name = str(self._part.name)
            if name in self._fields:
                self._repeated.add(name)
            try:
                self._fields[name] = self._field.decode()
            except UnicodeDecodeError:
                faults = [Fault(f"/{escaped(name)}", "must be text in UTF-8")]
                raise InvalidInputError(faults) from None

    def form(self) -> FileForm:
        """All of it. Raises :class:`InvalidInputError`."""
        if not self._files:
            raise _no_file(self._fields)
        texts = [("file", file.name) for file in self._files]
        faults = [
            Fault(f"/{escaped(name)}", "is given more than once") for name in sorted(self._repeated)
        ]
        faults += [
            Fault(f"/{escaped(key)}", fault.reason)
            for key, value in [*texts, *self._fields.items()]
            for fault in unstorable(value)
        ]
        if faults:
            raise InvalidInputError(faults[:MAX_TOLD])
        return FileForm(self._fields, self._files)


def write_all(file: RawIOBase, content: bytes | bytearray) -> None:
    """Write all of it: a full disk takes a part first, and only the next write fails.

    Raises ``OSError``.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _file_name(part: MultipartSegment, disposition: str) -> str | None:
    """The name that the file was sent with, as it was sent."""
    if (drive := _DRIVE_NAME.search(disposition)) is not None:
        return drive[1]
    if part.filename is None and (star := _STAR_NAME.search(disposition)) is not None:
        return unquote(star[1])
    name: str | None = part.filename
    return name


def _no_file(fields: Iterable[str]) -> InvalidInputError:
    reason = "is required: a part with this name and a file name"
    others = [shown(name) for name in fields if name]
    if others:
        reason += f"; there are the parts {listed(others)}"
    return InvalidInputError([Fault("/file", reason)])


def _reason(error: MultipartError) -> str:
    """Why the form cannot be read, in words that are not the parser's where those tell little."""
    told = str(error.args[0]) if error.args else ""
    if told.startswith("Unexpected end"):
        return "it ends too early, or its boundary is not the one that the content type names"
    if told.startswith("Segment header failed"):
        return "the head of a part is not UTF-8"
    return told[:1].lower() + told[1:].replace("segment", "part")


def _too_large(limit_mb: int, count: int) -> Problem:
    what = "The file" if count == 1 else "All files together"
    return Problem(Code.BODY_TOO_LARGE, f"{what} may have at most {limit_mb} MB.")


def _cut_off(reason: str) -> InvalidInputError:
    return InvalidInputError([Fault("", f"the body cannot be read: {reason}")])


def _unreadable(reason: str) -> InvalidInputError:
    return InvalidInputError([Fault("", f"the form cannot be read: {reason}")])
