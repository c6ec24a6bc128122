"""The artifact store: outputs and files, kept by the SHA-256 of their bytes.

Artifacts of one notebook lie together under its tenant, project and id, so that deleting the
notebook deletes them, and equal bytes of different tenants are never shared. What is long and
came piece by piece is kept in pieces, with a list of them under its own digest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import UUID

import msgspec
from obstore.store import LocalStore, ObjectStore, from_url

if TYPE_CHECKING:
    from obstore import GetResult

OPERATION_TIMEOUT = 60.0
"""Seconds that one call to the store may take."""

CHUNK_BYTES = 1 << 20

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


class ArtifactMissingError(Exception):
    """An artifact that was stored is not in the store any more."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"artifact {digest} is not in the store")


def open_store(url: str) -> ObjectStore:
    """The store at ``url``: ``file:///folder`` (made if missing) or ``s3://bucket/prefix``."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(folder)
    return from_url(url)


class ArtifactStore:
    """Puts and gets bytes by digest."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, scope: Scope, content: bytes, *, digest: str | None = None) -> str:
        """Keep ``content`` and return its digest, in lower-case hexadecimal.

        A caller that knows the digest already may say so.
        """
        if digest is None:
            digest = hashlib.sha256(content).hexdigest()
        async with asyncio.timeout(OPERATION_TIMEOUT):
            await self._store.put_async(_path(scope, digest), content)
        return digest

    async def put_joined(self, scope: Scope, digest: str, parts: Sequence[str]) -> None:
        """Keep what has this digest as a list of the artifacts that it consists of.

        They have to be kept already; none of them may be joined itself.
        """
        content = msgspec.json.encode(parts)
        async with asyncio.timeout(OPERATION_TIMEOUT):
            await self._store.put_async(_path(scope, digest) + _PARTS, content)

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

    async def stream(self, scope: Scope, digest: str) -> AsyncIterator[bytes]:
        """The bytes with this digest, in pieces. Raises :class:`ArtifactMissingError` at once."""
        opened = await self._open(_path(scope, digest))
        if opened is not None:
            return _pieces(opened)
        first, *others = await self._parts(scope, digest) or [digest]
        opened = await self._open(_path(scope, first))
        if opened is None:
            raise ArtifactMissingError(digest)
        return self._pieces_of_all(scope, opened, others)

    async def _get(self, path: str) -> bytes | None:
        async with asyncio.timeout(OPERATION_TIMEOUT):
            try:
                found = await self._store.get_async(path)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def _open(self, path: str) -> GetResult | None:
        async with asyncio.timeout(OPERATION_TIMEOUT):
            try:
                return await self._store.get_async(path)
            except FileNotFoundError:
                return None

    async def _parts(self, scope: Scope, digest: str) -> list[str]:
        """The digests of what a joined artifact consists of; none when there is none."""
        content = await self._get(_path(scope, digest) + _PARTS)
        return [] if content is None else msgspec.json.decode(content, type=list[str])

    async def _pieces_of_all(
        self, scope: Scope, first: GetResult, others: Sequence[str]
    ) -> AsyncIterator[bytes]:
        async for piece in _pieces(first):
            yield piece
        for digest in others:
            opened = await self._open(_path(scope, digest))
            if opened is None:
                raise ArtifactMissingError(digest)
            async for piece in _pieces(opened):
                yield piece

    async def delete_all(self, scope: Scope) -> int:
        """Remove every artifact of the notebook; returns how many there were."""
        count = 0
        batches = aiter(self._store.list(f"{scope.prefix}/", chunk_size=1000))
        while True:
            async with asyncio.timeout(OPERATION_TIMEOUT):
                batch = await anext(batches, None)
                if batch is None:
                    return count
                paths = [entry["path"] for entry in batch]
                await self._store.delete_async(paths)
            count += len(paths)


def _path(scope: Scope, digest: str) -> str:
    return f"{scope.prefix}/{digest[:2]}/{digest}"


async def _pieces(opened: GetResult) -> AsyncIterator[bytes]:
    stream = aiter(opened.stream(min_chunk_size=CHUNK_BYTES))
    while True:
        async with asyncio.timeout(OPERATION_TIMEOUT):
            piece = await anext(stream, None)
        if piece is None:
            return
        yield bytes(piece)
