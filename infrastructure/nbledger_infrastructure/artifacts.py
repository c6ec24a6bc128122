"""The artifact store: outputs and files, kept by the SHA-256 of their bytes.

Artifacts of one notebook lie together under its tenant, project and id, so that deleting the
notebook deletes them, and equal bytes of different tenants are never shared.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

import msgspec
from obstore.store import LocalStore, ObjectStore, from_url

OPERATION_TIMEOUT = 60.0
"""Seconds that one call to the store may take."""

CHUNK_BYTES = 1 << 20


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

    async def put(self, scope: Scope, content: bytes) -> str:
        """Keep ``content`` and return its digest, in lower-case hexadecimal."""
        digest = hashlib.sha256(content).hexdigest()
        async with asyncio.timeout(OPERATION_TIMEOUT):
            await self._store.put_async(_path(scope, digest), content)
        return digest

    async def get(self, scope: Scope, digest: str) -> bytes:
        """The bytes with this digest. Raises :class:`ArtifactMissingError`."""
        async with asyncio.timeout(OPERATION_TIMEOUT):
            try:
                found = await self._store.get_async(_path(scope, digest))
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                raise ArtifactMissingError(digest) from None

    async def stream(self, scope: Scope, digest: str) -> AsyncIterator[bytes]:
        """The bytes with this digest, in pieces. Raises :class:`ArtifactMissingError` at once."""
        async with asyncio.timeout(OPERATION_TIMEOUT):
            try:
                found = await self._store.get_async(_path(scope, digest))
            except FileNotFoundError:
                raise ArtifactMissingError(digest) from None

        async def pieces() -> AsyncIterator[bytes]:
            stream = aiter(found.stream(min_chunk_size=CHUNK_BYTES))
            while True:
                async with asyncio.timeout(OPERATION_TIMEOUT):
                    piece = await anext(stream, None)
                if piece is None:
                    return
                yield bytes(piece)

        return pieces()

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
