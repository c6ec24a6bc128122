"""The artifact store: outputs and files, kept by the SHA-256 of their bytes.

Artifacts of one notebook lie together under its tenant, project and id, so that deleting the
notebook deletes them, and equal bytes of different tenants are never shared. What is long and
came piece by piece is kept in pieces, with a list of them under its own digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import shutil
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import UUID

import msgspec
from obstore.store import LocalStore, ObjectStore, from_url

from nbledger_infrastructure.artifacts.errors import (
    ArtifactMissingError,
    ArtifactStoreUnavailableError,
    explained,
    reason_of,
)

if TYPE_CHECKING:
    from obstore.store import RetryConfig

__all__ = [
    "ArtifactMissingError",
    "ArtifactStore",
    "ArtifactStoreUnavailableError",
    "Scope",
    "Stored",
    "file_digest",
    "open_store",
]

OPERATION_TIMEOUT = 60.0
"""Seconds that a call to the store may take that moves many bytes."""

ANSWER_TIMEOUT = 4.0
"""Seconds that a call may take that moves few, for which somebody waits."""

_BYTES_PER_SECOND = 500_000
"""The slowest way to a store that is still one."""

_RETRIES = 2
_RETRY_SECONDS = 3
"""For how long the client library itself tries again; whoever can wait longer does so."""

CHUNK_BYTES = 1 << 20

_UPLOAD_CHUNK_BYTES = 8 << 20
"""In so large chunks a file goes to a distant store: S3 refuses less than 5 MB but at the end."""

_CHUNKS_AT_ONCE = 2
"""So many chunks of a file that is being stored are in memory."""

CHECK_FOLDER = ".nbledger-check"
"""Where :meth:`ArtifactStore.check` writes; nobody's artifacts are there."""

_NO_BUCKET = "<Code>NoSuchBucket</Code>"

_PARTS = ".parts"
"""Ends the name of an artifact that is kept as a list of others."""


class Scope(msgspec.Struct, frozen=True):
    """Whose artifacts: those of one notebook and its executions."""

    tenant_id: UUID
    project_id: UUID
    notebook_id: UUID

    @property
    def prefix(self) -> str:
        """The folder of this notebook in the store."""
        return f"{self.tenant_id}/{self.project_id}/{self.notebook_id}"


class Stored(msgspec.Struct, frozen=True):
    """An artifact that is there: its size in bytes, and the paths and sizes of its parts."""

    digest: str
    size: int
    parts: tuple[tuple[str, int], ...]


def open_store(url: str) -> ObjectStore:
    """The store at ``url``: ``file:///folder`` (made if missing) or ``s3://bucket/prefix``."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        # Outputs are nobody else's to read; who shares the folder makes it beforehand.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(folder)
    retries: RetryConfig = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
    }
    return from_url(url, retry_config=retries)


class ArtifactStore:
    """Puts and gets bytes by digest.

    Any method may raise :class:`ArtifactStoreUnavailableError`.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, scope: Scope, content: bytes, *, digest: str | None = None) -> str:
        """Keep ``content`` and return its digest, in lower-case hexadecimal.

        A caller that knows the digest already may say so.
        """
        if digest is None:
            digest = hashlib.sha256(content).hexdigest()
        await self._put(_path(scope, digest), content)
        return digest

    async def _put(self, path: str, content: bytes) -> None:
        seconds = ANSWER_TIMEOUT + len(content) / _BYTES_PER_SECOND
        with _writing():
            async with asyncio.timeout(seconds):
                await self._store.put_async(path, content)

    async def put_file(self, scope: Scope, path: Path, *, digest: str | None = None) -> str:
        """Keep the content of a file, whatever its size, and return its digest.

        A caller that knows the digest already may say so. The file must not change meanwhile.
        """
        if digest is None:
            digest = await asyncio.to_thread(file_digest, path)
        # What the large chunks take, the allocator keeps.
        local = isinstance(self._store, LocalStore)
        size = (await asyncio.to_thread(path.stat)).st_size
        if size <= CHUNK_BYTES:
            await self._put(_path(scope, digest), await asyncio.to_thread(path.read_bytes))
            return digest
        with _writing():
            async with asyncio.timeout(ANSWER_TIMEOUT + size / _BYTES_PER_SECOND):
                await self._store.put_async(
                    _path(scope, digest),
                    path,
                    chunk_size=CHUNK_BYTES if local else _UPLOAD_CHUNK_BYTES,
                    max_concurrency=_CHUNKS_AT_ONCE,
                )
        return digest

    async def get_file(self, scope: Scope, digest: str, path: Path) -> None:
        """Write the bytes with this digest to ``path``, where nothing may be yet.

        What fails leaves nothing there, so that it can be tried again. Raises
        :class:`ArtifactMissingError`, and ``OSError`` when the file cannot be written.
        """
        pieces = await self.stream(scope, digest)
        with path.open("xb") as file:
            try:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            except BaseException:
                path.unlink(missing_ok=True)  # noqa: ASYNC240 - also when it is cancelled
                raise

    async def put_joined(self, scope: Scope, digest: str, parts: Sequence[str]) -> None:
        """Keep what has this digest as a list of the artifacts that it consists of.

        They have to be kept already; none of them may be joined itself.
        """
        await self._put(_path(scope, digest) + _PARTS, msgspec.json.encode(parts))

    async def get(self, scope: Scope, digest: str) -> bytes:
        """The bytes with this digest. Raises :class:`ArtifactMissingError`."""
        content = await self._get(_path(scope, digest))
        if content is not None:
            return content
        parts = await self._parts(scope, digest)
        contents = [await self._get(_path(scope, part)) for part in parts]
        if not contents or None in contents:
            raise ArtifactMissingError(digest)
        return b"".join(content for content in contents if content is not None)

    async def find(self, scope: Scope, digest: str) -> Stored:
        """Where the bytes with this digest are. Raises :class:`ArtifactMissingError`."""
        path = _path(scope, digest)
        size = await self._size(path)
        if size is not None:
            return Stored(digest, size, ((path, size),))
        paths = [_path(scope, part) for part in await self._parts(scope, digest)]
        sizes = await asyncio.gather(*(self._size(path) for path in paths))
        parts = tuple((path, size) for path, size in zip(paths, sizes, strict=True) if size)
        if not parts or None in sizes:
            raise ArtifactMissingError(digest)
        return Stored(digest, sum(size for _, size in parts), parts)

    async def pieces(
        self, stored: Stored, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes from ``start`` up to, but without, ``stop``; in pieces of a bounded size.

        Raises :class:`ArtifactMissingError` when they are deleted meanwhile.
        """
        stop = stored.size if stop is None else min(stop, stored.size)
        begin = 0
        for path, size in stored.parts:
            low, high = max(start - begin, 0), min(stop - begin, size)
            begin += size
            if low >= high:
                continue
            try:
                async with contextlib.aclosing(self._pieces(path, low, high)) as pieces:
                    async for piece in pieces:
                        yield piece
            except FileNotFoundError as error:
                raise ArtifactMissingError(stored.digest) from error

    async def stream(self, scope: Scope, digest: str) -> AsyncGenerator[bytes]:
        """The bytes with this digest, in pieces. Raises :class:`ArtifactMissingError` at once."""
        return self.pieces(await self.find(scope, digest))

    def _pieces(self, path: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        # A local store streams in steps of a few kilobytes, and reads ranges ten times as fast;
        # of a distant one every range is a request.
        if isinstance(self._store, LocalStore):
            return self._ranges(path, start, stop)
        return self._streamed(path, start, stop)

    async def _ranges(self, path: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Reads the next piece while the last one is on its way."""

        async def read(at: int) -> bytes:
            with explained():
                async with asyncio.timeout(OPERATION_TIMEOUT):
                    end = min(at + CHUNK_BYTES, stop)
                    found = await self._store.get_range_async(path, start=at, end=end)
            if len(found) != end - at:
                raise ArtifactStoreUnavailableError("a file in it is shorter than it was")
            return bytes(found)

        ahead = asyncio.create_task(read(start))
        try:
            while start < stop:
                piece = await ahead
                start += CHUNK_BYTES
                if start < stop:
                    ahead = asyncio.create_task(read(start))
                yield piece
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _streamed(self, path: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        with explained():
            async with asyncio.timeout(ANSWER_TIMEOUT):
                opened = await self._store.get_async(path, options={"range": (start, stop)})
        stream = aiter(opened.stream(min_chunk_size=CHUNK_BYTES))
        while start < stop:
            with explained():
                async with asyncio.timeout(OPERATION_TIMEOUT):
                    piece = await anext(stream, None)
            if piece is None:
                raise ArtifactStoreUnavailableError("it sent less than it had promised")
            start += len(piece)
            yield bytes(piece)

    async def _size(self, path: str) -> int | None:
        with explained():
            async with asyncio.timeout(ANSWER_TIMEOUT):
                try:
                    return (await self._store.head_async(path))["size"]
                except FileNotFoundError:
                    return None

    async def _get(self, path: str) -> bytes | None:
        with explained():
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    found = await self._store.get_async(path)
                async with asyncio.timeout(OPERATION_TIMEOUT):
                    return bytes(await found.bytes_async())
            except FileNotFoundError as error:
                if _NO_BUCKET in str(error):
                    raise ArtifactStoreUnavailableError(reason_of(error)) from error
                return None

    async def _parts(self, scope: Scope, digest: str) -> list[str]:
        """The digests of what a joined artifact consists of; none when there is none."""
        content = await self._get(_path(scope, digest) + _PARTS)
        return [] if content is None else msgspec.json.decode(content, type=list[str])

    async def delete_all(self, scope: Scope) -> int:
        """Remove every artifact of the notebook; returns how many there were."""
        count = 0
        batches = aiter(self._store.list(f"{scope.prefix}/", chunk_size=1000))
        while True:
            with explained():
                async with asyncio.timeout(OPERATION_TIMEOUT):
                    batch = await anext(batches, None)
                    if batch is None:
                        break
                    paths = [entry["path"] for entry in batch]
                    await self._store.delete_async(paths)
            count += len(paths)
        if isinstance(self._store, LocalStore) and self._store.prefix is not None:
            # Folders begin with digits of digests, and a put that was cut off is not listed.
            with explained():
                await asyncio.to_thread(_remove_tree, self._store.prefix / scope.prefix)
        return count

    async def check(self) -> None:
        """Write a few bytes, read them back and delete them, as the service has to be able to.

        Raises :class:`ArtifactStoreUnavailableError` with what cannot be done, and why.
        """
        path, content = f"{CHECK_FOLDER}/{secrets.token_hex(16)}", b"nbledger"
        written = False
        try:
            with _doing("written"):
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    await self._store.put_async(path, content)
            written = True
            with _doing("read"):
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    found = await self._store.get_async(path)
                    if bytes(await found.bytes_async()) != content:
                        raise ArtifactStoreUnavailableError("it returns other bytes than it got")
        finally:
            if written:
                with _doing("deleted"):
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        await self._store.delete_async(path)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """As :func:`explained`, where what is not found is the place to write to."""
    try:
        with explained():
            yield
    except FileNotFoundError as error:
        raise ArtifactStoreUnavailableError(reason_of(error)) from error


@contextlib.contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        with _writing():
            yield
    except ArtifactStoreUnavailableError as error:
        raise ArtifactStoreUnavailableError(f"it cannot be {what}: {error.reason}") from error


def file_digest(path: Path) -> str:
    """The digest of a file, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_tree(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _path(scope: Scope, digest: str) -> str:
    return f"{scope.prefix}/{digest[:2]}/{digest}"
