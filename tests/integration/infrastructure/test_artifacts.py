"""The artifact store on a local folder."""

import hashlib
import itertools
from pathlib import Path
from uuid import uuid4

import pytest
from obstore.store import MemoryStore

from nbledger_infrastructure.artifacts.store import (
    CHUNK_BYTES,
    ArtifactMissingError,
    ArtifactStore,
    Scope,
    open_store,
)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(open_store((tmp_path / "artifacts").as_uri()))


def scope() -> Scope:
    return Scope(uuid4(), uuid4(), uuid4())


async def test_bytes_come_back_by_their_digest(artifacts: ArtifactStore) -> None:
    mine, content = scope(), bytes(range(256)) * 20_000
    digest = await artifacts.put(mine, content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert await artifacts.put(mine, content) == digest
    assert await artifacts.get(mine, digest) == content
    pieces = [piece async for piece in await artifacts.stream(mine, digest)]
    assert b"".join(pieces) == content


async def test_what_is_not_there_is_an_error(artifacts: ArtifactStore) -> None:
    with pytest.raises(ArtifactMissingError):
        await artifacts.get(scope(), "0" * 64)
    with pytest.raises(ArtifactMissingError):
        await artifacts.stream(scope(), "0" * 64)


async def test_scopes_share_nothing(artifacts: ArtifactStore) -> None:
    mine, other = scope(), scope()
    digest = await artifacts.put(mine, b"secret")
    with pytest.raises(ArtifactMissingError):
        await artifacts.get(other, digest)


async def test_deleting_takes_the_whole_scope_and_no_other(artifacts: ArtifactStore) -> None:
    mine, other = scope(), scope()
    for number in range(5):
        await artifacts.put(mine, str(number).encode())
    kept = await artifacts.put(other, b"kept")
    assert await artifacts.delete_all(mine) == 5
    assert await artifacts.delete_all(mine) == 0
    assert await artifacts.get(other, kept) == b"kept"


@pytest.mark.parametrize("distant", [False, True])
async def test_any_range_of_what_is_kept_whole_or_in_parts(
    tmp_path: Path,
    distant: bool,  # noqa: FBT001
) -> None:
    # What lies in memory is read as what lies in a bucket.
    folder = open_store((tmp_path / "artifacts").as_uri())
    artifacts = ArtifactStore(MemoryStore() if distant else folder)
    mine, content = scope(), bytes(range(251)) * 10_000
    digest, size = hashlib.sha256(content).hexdigest(), len(content)
    cuts = [0, 1, 1_000_000, 1_000_003, size]
    parts = [
        await artifacts.put(mine, content[start:stop]) for start, stop in itertools.pairwise(cuts)
    ]
    await artifacts.put_joined(mine, digest, parts)
    in_parts = await artifacts.find(mine, digest)
    await artifacts.put(mine, content)
    whole = await artifacts.find(mine, digest)
    assert (len(in_parts.parts), len(whole.parts)) == (4, 1)
    assert in_parts.size == whole.size == size
    edges = [0, 1, 2, 999_999, 1_000_001, CHUNK_BYTES, CHUNK_BYTES + 1, size - 1, size, size + 9]
    for stored in (in_parts, whole):
        for start in edges:
            for stop in edges:
                pieces = [piece async for piece in artifacts.pieces(stored, start, stop)]
                assert b"".join(pieces) == content[start:stop]
                assert distant or all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)
    await artifacts.delete_all(mine)
    with pytest.raises(ArtifactMissingError):
        await anext(artifacts.pieces(whole))
