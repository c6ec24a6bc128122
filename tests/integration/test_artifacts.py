"""The artifact store on a local folder."""

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest

from nbledger_infrastructure.artifacts import (
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
