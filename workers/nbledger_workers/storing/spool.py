"""The artifact store as one run writes to it: what it does not take waits in files, in order."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from nbledger_infrastructure.artifacts.store import (
    ArtifactStore,
    ArtifactStoreUnavailableError,
    Scope,
    file_digest,
)
from nbledger_infrastructure.backoff import Backoff

log = structlog.get_logger(__name__)


class _Waiting(msgspec.Struct, frozen=True):
    """What is to be stored: a file, or a list of what is stored already."""

    scope: Scope
    digest: str
    path: Path | None
    size: int
    parts: Sequence[str] = ()


class Spool:
    """Puts what one run puts out, at once where the store takes it.

    Otherwise it waits in files below ``folder()``, up to ``max_bytes``, beyond which whoever puts
    waits. Once the store has not taken anything for ``seconds``, ``on_failed`` is called: what
    waits then, and what is put later, is lost.
    """

    def __init__(
        self,
        artifacts: ArtifactStore,
        folder: Callable[[], Path],
        *,
        max_bytes: int,
        seconds: float,
        on_failed: Callable[[], None],
    ) -> None:
        self.direct = artifacts
        self.failure: ArtifactStoreUnavailableError | None = None
        """Why what was put is lost."""
        self._parent = folder
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._on_failed = on_failed
        self._folder: Path | None = None
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._files = 0
        self._making = asyncio.Lock()
        self._number = 0
        self._stored = 0
        self._lost: set[str] = set()
        self._moved = asyncio.Event()
        self._storing: asyncio.Task[None] | None = None

    def is_lost(self, digest: str) -> bool:
        """Whether what has this digest could not be stored."""
        return digest in self._lost

    async def put(self, scope: Scope, content: bytes, *, digest: str | None = None) -> str:
        """Keep ``content``; returns its digest."""
        if digest is None:
            digest = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
        if self.is_straight:
            try:
                return await self.direct.put(scope, content, digest=digest)
            except ArtifactStoreUnavailableError as error:
                self._begin(error)
        await self._keep(scope, digest, len(content), lambda path: path.write_bytes(content))
        return digest

    async def put_file(self, scope: Scope, path: Path, *, digest: str | None = None) -> str:
        """Keep the content of a file, which may be removed afterwards; returns its digest."""
        if digest is None:
            digest = await asyncio.to_thread(file_digest, path)
        if self.is_straight:
            try:
                return await self.direct.put_file(scope, path, digest=digest)
            except ArtifactStoreUnavailableError as error:
                self._begin(error)
        size = (await asyncio.to_thread(path.stat)).st_size
        await self._keep(scope, digest, size, lambda kept: _link(path, kept))
        return digest

    async def put_joined(self, scope: Scope, digest: str, parts: Sequence[str]) -> None:
        """Keep what has this digest as a list of what was put before."""
        if self.is_straight:
            try:
                await self.direct.put_joined(scope, digest, parts)
            except ArtifactStoreUnavailableError as error:
                self._begin(error)
            else:
                return
        if await self._has_room(digest, 0):
            self._add(_Waiting(scope, digest, None, 0, tuple(parts)))

    async def settle(self) -> None:
        """Wait until all that was put by now is stored or lost."""
        wanted = self._number
        while self.failure is None and self._stored < wanted:
            self._moved.clear()
            await self._moved.wait()

    def give_up(self, error: ArtifactStoreUnavailableError) -> None:
        """Lose what waits, and what is put from now on."""
        if self.failure is not None:
            return
        self.failure = error
        self._lost.update(each.digest for each in self._waiting)
        self._waiting.clear()
        log.error("artifacts of the run are lost", reason=error.reason, count=len(self._lost))
        self._moved.set()
        self._on_failed()

    async def close(self) -> None:
        """Store no more, and remove the files that wait."""
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.gather(self._storing, return_exceptions=True)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def is_straight(self) -> bool:
        """Whether nothing waits that has to be stored before."""
        return self.failure is None and not self._waiting

    def _begin(self, error: ArtifactStoreUnavailableError) -> None:
        """Something has to wait; what comes after it does, too."""
        log.warning("artifact store is not usable, outputs wait", reason=error.reason)

    async def _has_room(self, digest: str, size: int) -> bool:
        while self.failure is None and self._waiting and self._bytes + size > self._max_bytes:
            self._moved.clear()
            await self._moved.wait()
        if self.failure is None:
            return True
        self._lost.add(digest)
        return False

    async def _keep(
        self, scope: Scope, digest: str, size: int, write: Callable[[Path], object]
    ) -> None:
        """Have it wait in a file."""
        if not await self._has_room(digest, size):
            return
        try:
            path = await self._next_path()
            await asyncio.to_thread(write, path)
        except OSError as error:
            why = f"it is not usable, and what waits for it cannot be kept: {error.strerror}"
            self.give_up(ArtifactStoreUnavailableError(why))
            self._lost.add(digest)
        else:
            self._add(_Waiting(scope, digest, path, size))

    async def _next_path(self) -> Path:
        async with self._making:
            if self._folder is None:
                made = await asyncio.to_thread(
                    tempfile.mkdtemp, prefix="spool-", dir=self._parent()
                )
                self._folder = Path(made)
        self._files += 1
        return self._folder / str(self._files)

    def _add(self, waiting: _Waiting) -> None:
        self._number += 1
        if self.failure is not None:
            # It was given up while the file was written.
            self._lost.add(waiting.digest)
            return
        self._waiting.append(waiting)
        self._bytes += waiting.size
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_all(), name="artifact spool")

    async def _store_all(self) -> None:
        since, backoff = time.monotonic(), Backoff(0.1, 2.0)
        while self._waiting:
            first = self._waiting[0]
            try:
                await self._store(first)
            except ArtifactStoreUnavailableError as error:
                if time.monotonic() - since > self._seconds:
                    self.give_up(error)
                    return
                await backoff.wait()
                continue
            except OSError as error:
                # Whoever waits for what cannot be read again would wait for ever.
                why = f"what waits for it cannot be read: {error.strerror}"
                self.give_up(ArtifactStoreUnavailableError(why))
                return
            if backoff.failures:
                log.info("artifact store is usable again", waiting=len(self._waiting))
            since = time.monotonic()
            backoff.reset()
            if not self._waiting:
                return  # given up meanwhile
            self._waiting.popleft()
            self._bytes -= first.size
            self._stored += 1
            if first.path is not None:
                first.path.unlink(missing_ok=True)
            self._moved.set()

    async def _store(self, waiting: _Waiting) -> None:
        if waiting.path is None:
            await self.direct.put_joined(waiting.scope, waiting.digest, waiting.parts)
        else:
            await self.direct.put_file(waiting.scope, waiting.path, digest=waiting.digest)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
