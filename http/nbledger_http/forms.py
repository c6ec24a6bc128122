"""Forms with a large file: its bytes go to a file on disk as they come."""

import asyncio
import errno
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any

import msgspec
import structlog
from litestar import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_http.checking import escaped, unstorable
from nbledger_http.problems import Code, Problem
from nbledger_http.services import services_of
from nbledger_http.turns import turn_of

log = structlog.get_logger(__name__)

MEGABYTE = 1024 * 1024
MAX_PARTS = 100
MAX_FIELD_BYTES = 64 * 1024
RECEIVE_SECONDS = 60.0
"""A client that sends nothing for so long is waited for no longer."""

MIN_BYTES_PER_SECOND = 8 * 1024
"""Nor is one that is slower than this, once that time is over."""

_WRITE_BYTES = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Form(msgspec.Struct, frozen=True):
    """The text fields of a form, and the file that it carries."""

    fields: dict[str, str]
    file_name: str
    path: Path


@asynccontextmanager
async def received(request: Request[Any, Any, Any], *, limit_mb: int) -> AsyncIterator[Form]:
    """The form that ``request`` carries; its file, and the folder that it is in, for the block.

    Raises what :func:`receive_form` does.
    """
    # Who sends slowly takes nobody's turn: uploads have places of their own.
    turn_of(request.scope).give_back()
    async with services_of(request).uploads, scratch_folder() as folder:
        yield await receive_form(request, folder, limit_mb=limit_mb)


@asynccontextmanager
async def scratch_folder() -> AsyncIterator[Path]:
    """A folder for large files, whose removal holds up nobody."""
    folder = tempfile.TemporaryDirectory(prefix="nbledger-")
    try:
        yield Path(folder.name)
    finally:
        await asyncio.shield(asyncio.to_thread(folder.cleanup))


async def receive_form(request: Request[Any, Any, Any], folder: Path, *, limit_mb: int) -> Form:
    """The form that ``request`` carries, its part ``file`` in ``folder``.

    Raises :class:`Problem` (413, 415; 503 when the disk is full) and :class:`InvalidInputError`.
    """
    body = _BodyReader(request)
    try:
        parser = PushMultipartParser(_boundary(request), max_segment_count=MAX_PARTS)
        receiving = _Receiving(folder / "upload", limit_mb)
        try:
            async for content in body:
                if body.size > (limit_mb + 1) * MEGABYTE:
                    raise _too_large(limit_mb)
                for part in parser.parse(content):
                    await receiving.take(part)
            parser.close()
            await receiving.flush()
        finally:
            receiving.file.close()
        return receiving.form()
    except MultipartError as error:
        raise _unreadable(str(error)) from None


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
                raise _unreadable("the client has gone")
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
            raise _unreadable("the client is too slow") from None


def _boundary(request: Request[Any, Any, Any]) -> str:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send the form without a content encoding.")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != "multipart/form-data":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send multipart/form-data.")
    boundary: str = options.get("boundary", "")
    if not boundary or len(boundary) > 200 or not boundary.isascii():
        raise _unreadable("the content type names no boundary")
    return boundary


class _Receiving:
    """The parts of a form as they come."""

    def __init__(self, path: Path, limit_mb: int) -> None:
        self._path = path
        self._limit_mb = limit_mb
        self.file = path.open("xb", buffering=0)
        self._waiting = bytearray()
        self._size = 0
        self._part: MultipartSegment | None = None
        self._field = bytearray()
        self._fields: dict[str, str] = {}
        self._file_names: list[str] = []

    async def take(self, part: Any) -> None:
        """A part's head, some of its content, or ``None`` for its end."""
        if isinstance(part, MultipartSegment):
            self._part = part
            self._field.clear()
            if part.name == "file":
                if part.filename is None or self._file_names:
                    raise _no_file()
                self._file_names.append(part.filename)
        elif part is None:
            self._end_part()
        elif self._part is not None and self._part.name == "file":
            self._size += len(part)
            if self._size > self._limit_mb * MEGABYTE:
                raise _too_large(self._limit_mb)
            self._waiting += part
            if len(self._waiting) >= _WRITE_BYTES:
                await self.flush()
        else:
            self._field += part
            if len(self._field) > MAX_FIELD_BYTES:
                raise _unreadable(f"a field has more than {MAX_FIELD_BYTES:,} bytes")

    async def flush(self) -> None:
        """Write what is waiting."""
        content, self._waiting = self._waiting, bytearray()
        try:
            await asyncio.to_thread(write_all, self.file, content)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            log.warning("no room for an upload", reason=error.strerror)
            raise Problem(Code.UNAVAILABLE, "There is no room for the file.") from error

    def _end_part(self) -> None:
        if self._part is None or self._part.name == "file":
            return
        name = str(self._part.name)
        try:
            self._fields[name] = self._field.decode()
        except UnicodeDecodeError:
            faults = [Fault(f"/{escaped(name)}", "must be text in UTF-8")]
            raise InvalidInputError(faults) from None

    def form(self) -> Form:
        """All of it. Raises :class:`InvalidInputError`."""
        if not self._file_names:
            raise _no_file()
        name = self._file_names[0].replace("\\", "/").rpartition("/")[2][:255]
        faults = [
            Fault(f"/{escaped(key)}", fault.reason)
            for key, value in {"file": name, **self._fields}.items()
            for fault in unstorable(value)
        ]
        if faults:
            raise InvalidInputError(faults)
        return Form(self._fields, name, self._path)


def write_all(file: RawIOBase, content: bytes | bytearray) -> None:
    """Write all of it: a full disk takes a part first, and only the next write fails.

    Raises ``OSError``.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _no_file() -> InvalidInputError:
    return InvalidInputError([Fault("/file", "must be one file, sent with a file name")])


def _too_large(limit_mb: int) -> Problem:
    return Problem(Code.BODY_TOO_LARGE, f"The file may have at most {limit_mb} MB.")


def _unreadable(reason: str) -> InvalidInputError:
    return InvalidInputError([Fault("", f"the form cannot be read: {reason}")])
