"""NamedArtifacts of events, copied into a bundle once each."""

from collections.abc import AsyncIterable, Sequence
from typing import Final

from nbledger_audit.bundles.lines import NamedArtifacts, named_artifacts
from nbledger_audit.bundles.manifest import CopiedArtifacts
from nbledger_audit.bundles.scopes import HistoryScope
from nbledger_audit.bundles.selecting import Selected
from nbledger_audit.bundles.targets import BundleTarget, Sink
from nbledger_infrastructure.artifacts.store import ArtifactMissingError, ArtifactStore
from nbledger_infrastructure.artifacts.store import Scope as Folder

_FOLDER: Final = "artifacts"


class _DamagedError(Exception):
    """The store has other bytes than the digest is of."""


class ArtifactCopies:
    """Copies what events name; without a store, nothing."""

    def __init__(
        self,
        store: ArtifactStore | None,
        scope: HistoryScope,
        target: BundleTarget,
        counts: CopiedArtifacts,
    ) -> None:
        self._store = store
        self._scope = scope
        self._target = target
        self._counts = counts

    async def of(self, event: Selected) -> NamedArtifacts:
        """Copy the artifacts that an event names, and tell which ones the store has not.

        Raises ``ArtifactStoreUnavailableError``.
        """
        if self._store is None:
            return NamedArtifacts()
        folder = Folder(self._scope.tenant_id, event.project_id, event.subject_id)
        return await self._copied(self._store, folder, named_artifacts(event.content.data))

    async def _copied(
        self, store: ArtifactStore, folder: Folder, digests: Sequence[str]
    ) -> NamedArtifacts:
        included: list[str] = []
        missing: list[str] = []
        for digest in digests:
            name = f"{_FOLDER}/{digest}"
            if self._target.has(name) or await self._copy(store, folder, digest, name):
                included.append(digest)
            else:
                missing.append(digest)
        self._counts.missing += len(missing)
        return NamedArtifacts(included, missing)

    async def _copy(self, store: ArtifactStore, folder: Folder, digest: str, name: str) -> bool:
        try:
            pieces = await store.stream(folder, digest)
            with self._target.file(name) as sink:
                await _fill(sink, pieces, digest)
        except (ArtifactMissingError, _DamagedError):
            return False
        self._counts.count += 1
        self._counts.bytes += sink.size
        return True


async def _fill(sink: Sink, pieces: AsyncIterable[bytes], digest: str) -> None:
    async for piece in pieces:
        sink.write(piece)
    if sink.digest != digest:
        raise _DamagedError
