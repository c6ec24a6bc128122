"""A history to export, and a check of bundles that knows their description alone."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from support.event_store import new_event, open_pool, open_store

from nbledger_audit.bundles.exporting import export
from nbledger_audit.bundles.manifest import BundleManifest
from nbledger_audit.bundles.scopes import HistoryScope
from nbledger_audit.bundles.targets import BundleTarget
from nbledger_audit.bundles.verify import Bundle
from nbledger_audit.keys import Signer
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_domain.transparency.notes import ED25519, Key
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.artifacts.store import Scope as Folder
from nbledger_infrastructure.artifacts.store import open_store as open_artifacts
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream

ORIGIN = "ledger.example.com"
METADATA = Metadata(actor="0f8fad5b-d9cb-469f-a165-70867728950e", request_id="r-1")
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Ledger(msgspec.Struct):
    """A tenant's history, a sealer that signs whenever it is asked, and artifacts."""

    pool: Pool
    store: EventStore
    artifacts: ArtifactStore
    sealer: Sealer
    tenant_id: UUID
    project_id: UUID

    @property
    def key(self) -> str:
        """The key that signs the tenant's log, in one word."""
        signer = self.sealer._signer
        return Key(signer.origin_of(self.tenant_id), ED25519, signer._signer.public).encoded

    async def notebook(self, project_id: UUID | None = None) -> Stream:
        """Record a notebook."""
        stream_id = uuid.uuid4()
        stream = Stream(stream_id, stream_id, self.tenant_id, project_id or self.project_id)
        await self.append(stream, "notebook.created.v1", {"name": "Größe\n\u2028"}, version=0)
        return stream

    async def execution(self, notebook: Stream, events: int = 3) -> Stream:
        """Record an execution of so many events, the second of which names an artifact."""
        stream = msgspec.structs.replace(notebook, stream_id=uuid.uuid4())
        for version in range(events):
            data: dict[str, Any] = {"n": version}
            if version == 1:
                data["outputs"] = [await self.output(notebook, f"out of {stream.stream_id}")]
            await self.append(stream, f"execution.step-{version}.v1", data, version=version)
        return stream

    async def output(self, notebook: Stream, text: str) -> dict[str, Any]:
        """Keep an artifact, and tell it as events do."""
        scope = Folder(notebook.tenant_id, notebook.project_id, notebook.subject_id)
        digest = await self.artifacts.put(scope, text.encode())
        return {"contentType": "text/plain", "digest": digest, "size": len(text)}

    async def append(self, stream: Stream, type_: str, data: Any, *, version: int) -> None:
        """Record one event."""
        event = new_event(json.dumps(data, ensure_ascii=False).encode(), type_)
        await self.store.append(stream, [event], expected_version=version, metadata=METADATA)

    async def delete(self, notebook: Stream, version: int = 1) -> None:
        """Delete a notebook, and erase what was its."""
        await self.append(notebook, "notebook.deleted.v1", {}, version=version)
        await self.store.erase_subject(notebook.subject_id)
        scope = Folder(notebook.tenant_id, notebook.project_id, notebook.subject_id)
        await self.artifacts.delete_all(scope)

    async def seal(self) -> None:
        """Enter all events and sign."""
        await self.sealer.tick()
        await self.sealer.sign()

    async def export(
        self,
        path: Path,
        *,
        zipped: bool = False,
        wait_seconds: float = 0,
        **scope: Any,
    ) -> BundleManifest:
        """Export to ``path``."""
        with BundleTarget(path, zipped=zipped) as target:
            return await export(
                self.pool,
                HistoryScope(tenant_id=self.tenant_id, **scope),
                target,
                artifacts=self.artifacts,
                progress=lambda _: None,
                wait_seconds=wait_seconds,
            )


@asynccontextmanager
async def open_ledger(dsn: str, folder: Path) -> AsyncIterator[Ledger]:
    """A ledger of a new tenant in this database."""
    signer = Signer.generate(folder / "key.pem")
    checkpoints = CheckpointSigner(signer, ORIGIN, folder / "signed")
    artifacts = ArtifactStore(open_artifacts(f"file://{folder}/artifacts"))
    async with open_pool(dsn) as pool, open_store(pool) as store:
        async with pool.acquire() as connection:
            await checkpoints.tell_key(connection)
        sealer = Sealer(pool, checkpoints, 3600.0)
        yield Ledger(pool, store, artifacts, sealer, uuid.uuid4(), uuid.uuid4())


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``events.jsonl``."""
    return [json.loads(line) for line in _raw_lines(folder)]


def _raw_lines(folder: Path) -> list[bytes]:
    return (folder / "events.jsonl").read_bytes().splitlines(keepends=True)


def names_of(folder: Path) -> set[str]:
    """The paths of all files."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


def check(folder: Path) -> dict[str, Any]:
    """Assert that a bundle is as its description says, and its program agrees.

    Returns ``bundle.json``.
    """
    bundle = Bundle(folder)
    bundle.trust(folder / "policy")
    bundle.check([])
    told: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in sums)}
    assert set(listed) | {"SHA256SUMS"} == names_of(folder)
    for name, digest in listed.items():
        assert _sha(folder.joinpath(name).read_bytes()).hex() == digest, name
        if name.startswith("artifacts/"):
            assert name == f"artifacts/{digest}"
    _, size, root = (folder / "checkpoint").read_text().split("\n")[:3]
    tree = Tree(folder, int(size))
    assert base64.b64encode(tree.root()).decode() == root
    previous, streams = (-1, -1, ""), dict[str, tuple[int, str | None]]()
    for raw in _raw_lines(folder):
        line = json.loads(raw)
        entry = line["entry"]
        encoded = json.dumps(entry, separators=(",", ":"), sort_keys=True).encode()
        assert raw.startswith(b'{"entry":' + encoded + b',"data":')
        assert tree.leaf(entry["number"]) == _sha(b"\x00", encoded)
        place = (entry["number"], entry["position"], entry["recordedAt"])
        assert all(now > then for now, then in zip(place[:2], previous[:2], strict=True))
        assert place[2] >= previous[2]
        previous = place
        check_line(folder, line, streams)
    if told["whole"]:
        numbers = [line["entry"]["number"] for line in lines_of(folder)]
        assert numbers == list(range(int(size)))
        assert [json.loads(each)["number"] for each in tree.entries()] == numbers
    for proof in (folder / "proofs").glob("*"):
        check_proof(proof, folder)
    return told


def check_line(
    folder: Path, line: dict[str, Any], streams: dict[str, tuple[int, str | None]]
) -> None:
    """Assert that digests and chain are those of what is told."""
    entry = line["entry"]
    version, before = streams.get(entry["stream"], (None, None))
    if not line.get("context"):
        assert version in {None, entry["version"] - 1}, "a gap"
    streams[entry["stream"]] = (entry["version"], entry["chain"])
    assert (line["data"] is None) == ("erased" in line)
    for digest in line.get("artifacts", ()):
        assert digest in line["data"]
        assert (folder / "artifacts" / digest).is_file()
    if entry["data"] is None:
        assert (line["salt"], line["metadataSalt"]) == (None, None)
        return
    metadata = _sha(base64.b64decode(line["metadataSalt"]), line["metadata"].encode())
    assert metadata.hex() == entry["metadata"]
    if line["data"] is not None:
        data = _sha(base64.b64decode(line["salt"]), line["data"].encode())
        assert data.hex() == entry["data"]
    if entry["version"] == 1 or before is not None:
        link = b"".join(
            (
                bytes.fromhex(before or "00" * 32),
                b"\x02",
                bytes.fromhex(entry["data"]),
                *(UUID(entry[name]).bytes for name in ("id", "stream")),
                entry["version"].to_bytes(4, "big"),
                *(UUID(entry[name]).bytes for name in ("subject", "tenant", "project")),
                entry["position"].to_bytes(8, "big"),
                metadata,
                *(_microseconds(entry[name]) for name in ("occurredAt", "recordedAt")),
                entry["type"].encode(),
            )
        )
        assert _sha(link).hex() == entry["chain"]


def check_proof(proof: Path, folder: Path) -> None:
    """Assert that a proof is of the bundle's checkpoint and of the entry that it brings."""
    head, note = proof.read_text().split("\n\n", 1)
    assert note == (folder / "checkpoint").read_text()
    _, extra, index, *hashes = head.split("\n")
    entry = base64.b64decode(extra.removeprefix("extra "))
    number = int(index.removeprefix("index "))
    assert (proof.name, json.loads(entry)["number"]) == (f"{number}.tlog-proof", number)
    _, size, root = note.split("\n")[:3]
    hashed, last = _sha(b"\x00", entry), int(size) - 1
    for step in map(base64.b64decode, hashes):
        while not number & 1 and number == last:
            number, last = number >> 1, last >> 1
        left, right = (step, hashed) if number & 1 else (hashed, step)
        hashed = _sha(b"\x01", left, right)
        number, last = number >> 1, last >> 1
    assert base64.b64encode(hashed).decode() == root


class Tree:
    """The tiles of a bundle; each one that is read has its hash in the one above."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def root(self) -> bytes:
        """The hash of the whole tree, of the tiles at its right edge."""
        return self._tree(0, self.size)

    def leaf(self, number: int) -> bytes:
        """The hash of an entry; every tile above it is checked."""
        found, level = self.hash(0, number), 0
        while (number >> 8) < (self.size >> 8 * (level + 1)):
            tile = self._tile(level, number >> 8)
            number, level = number >> 8, level + 1
            assert _perfect(tile) == self.hash(level, number)
        return found

    def hash(self, level: int, number: int) -> bytes:
        """A hash of a level."""
        return self._tile(level, number >> 8)[number & 255]

    def entries(self) -> Iterator[bytes]:
        """All entries, of a whole bundle."""
        for index in range(-(-self.size // 256)):
            width = min(self.size - 256 * index, 256)
            found = self._read(f"tile/entries/{_path(index, width)}")
            while found:
                length = 2 + int.from_bytes(found[:2], "big")
                yield found[2:length]
                found = found[length:]

    def _tree(self, first: int, last: int) -> bytes:
        count = last - first
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            level, part = divmod(height, 8)
            begin = first >> 8 * level
            return _perfect([self.hash(level, begin + at) for at in range(1 << part)])
        split = first + (1 << (count - 1).bit_length() - 1)
        return _sha(b"\x01", self._tree(first, split), self._tree(split, last))

    def _tile(self, level: int, index: int) -> list[bytes]:
        width = min((self.size >> 8 * level) - 256 * index, 256)
        found = self._read(f"tile/{level}/{_path(index, width)}")
        assert len(found) == 32 * width
        return [found[at : at + 32] for at in range(0, len(found), 32)]

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def _path(index: int, width: int) -> str:
    assert index < 1000, "larger logs are not checked here"
    return f"{index:03}" if width == 256 else f"{index:03}.p/{width}"


def _perfect(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [_sha(b"\x01", left, right) for left, right in pairs]
    return hashes[0]


def _sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _microseconds(at: str) -> bytes:
    since = datetime.fromisoformat(at) - EPOCH
    whole = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return whole.to_bytes(8, "big", signed=True)
