"""Logs of tenants on real PostgreSQL: every event is entered once, and proofs hold for it."""

from __future__ import annotations

import json
import stat
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from support.event_store import METADATA, new_event, open_pool, open_store

from nbledger_audit import logs
from nbledger_audit.entries import events_at
from nbledger_audit.keys import KeyFileError, Signer, verify
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner, InconsistentLogError
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.checkpoints import LogCheckpoint, read_checkpoint
from nbledger_domain.transparency.notes import COSIGNATURE, Key, read_note
from nbledger_domain.transparency.proofs import EntryProof
from nbledger_domain.transparency.tiles import WIDTH, Tile
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Stream

TENANTS = [UUID(int=number) for number in (1, 2, 3)]
ORIGIN = "ledger.example.com"


class Scene(msgspec.Struct):
    """A store, and a sealer that signs whenever it is asked."""

    pool: Pool
    store: EventStore
    signer: Signer
    checkpoints: CheckpointSigner
    sealer: Sealer

    async def record(self, tenant_id: UUID, count: int) -> None:
        """Record so many events of a tenant, in a stream of its own."""
        stream = Stream(uuid.uuid4(), uuid.uuid4(), tenant_id, uuid.uuid4())
        events = [new_event(b'{"n": %d}' % number) for number in range(count)]
        await self.store.append(stream, events, expected_version=0, metadata=METADATA)

    async def seal(self) -> None:
        await self.sealer.tick()
        await self.sealer.sign()

    async def checkpoint(self, tenant_id: UUID) -> LogCheckpoint:
        """The newest checkpoint, its signature checked."""
        async with self.pool.acquire() as connection:
            newest = await logs.newest(connection, tenant_id)
        assert newest is not None
        note = read_note(newest.note)
        key = self.signer.key(self.checkpoints.origin_of(tenant_id))
        assert note.signed_by([key], verify) == (key,)
        checkpoint = read_checkpoint(note)
        assert checkpoint.origin == key.name == f"{ORIGIN}/audit/log/{tenant_id}"
        return checkpoint

    async def entries(self, tenant_id: UUID, size: int) -> list[bytes]:
        """All entries of a log, made of the events as they are now."""
        found: list[bytes] = []
        async with self.pool.acquire() as connection:
            for index in range(-(-size // WIDTH)):
                width = min(size - index * WIDTH, WIDTH)
                positions = await logs.positions(connection, tenant_id, index, width)
                assert positions is not None
                events = await events_at(connection, positions)
                assert [event.position for event in events] == positions
                found += [event.entry(number) for number, event in enumerate(events, len(found))]
        return found


@pytest.fixture
async def scene(database_dsn: str, tmp_path: Path) -> AsyncIterator[Scene]:
    signer = Signer.generate(tmp_path / "key.pem")
    checkpoints = CheckpointSigner(signer, ORIGIN, tmp_path / "signed")
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        yield Scene(pool, store, signer, checkpoints, Sealer(pool, checkpoints, 3600.0))


def root_of(entries: list[bytes]) -> bytes:
    """The hash of a tree by its entries alone."""
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    kept = tiles.append({}, 0, leaves)
    return tiles.proof_of((merkle.root(len(leaves)),), kept)[0]


async def test_each_tenant_has_a_log_of_its_events_alone(scene: Scene) -> None:
    for count in (1, 255, 2, 300):
        for tenant_id in TENANTS[:2]:
            await scene.record(tenant_id, count)
        await scene.seal()
    events = await scene.store.read_all(after_position=0, limit=10_000)
    for tenant_id in TENANTS[:2]:
        checkpoint = await scene.checkpoint(tenant_id)
        assert checkpoint.size == 558
        entries = await scene.entries(tenant_id, checkpoint.size)
        assert root_of(entries) == checkpoint.root
        told = [json.loads(entry) for entry in entries]
        of_tenant = [event for event in events if event.tenant_id == tenant_id]
        assert [each["number"] for each in told] == list(range(558))
        assert [UUID(each["id"]) for each in told] == [event.event_id for event in of_tenant]
        assert {each["tenant"] for each in told} == {str(tenant_id)}
        # RFC 8785: names in order, no blanks; nothing of the data but its digest.
        for entry, each in zip(entries, told, strict=True):
            assert entry == json.dumps(each, separators=(",", ":"), sort_keys=True).encode()
            assert len(each["data"]) == len(each["metadata"]) == len(each["chain"]) == 64
    async with scene.pool.acquire() as connection:
        assert await logs.newest(connection, TENANTS[2]) is None
        assert await logs.signed_size(connection, TENANTS[2]) == 0


async def test_proofs_hold_for_every_event_and_each_growth(scene: Scene) -> None:
    (tenant_id, other, _) = TENANTS
    seen: list[LogCheckpoint] = []
    for count in (3, 253, 1, 400):
        await scene.record(tenant_id, count)
        await scene.record(other, 1)
        await scene.seal()
        seen.append(await scene.checkpoint(tenant_id))
    last = seen[-1]
    entries = await scene.entries(tenant_id, last.size)
    async with scene.pool.acquire() as connection:
        for earlier in seen:
            proof = await logs.prove(
                connection, tenant_id, merkle.consistency(earlier.size, last.size)
            )
            merkle.check_consistency(earlier.size, earlier.root, last.size, last.root, proof)
        note = read_note(await logs.checkpoint(connection, tenant_id, last.size) or "")
        for entry in entries:
            position = json.loads(entry)["position"]
            number = await logs.number_of(connection, tenant_id, position)
            assert number is not None
            assert entries[number] == entry
            assert await logs.number_of(connection, other, position) is None
            hashes = await logs.prove(connection, tenant_id, merkle.inclusion(number, last.size))
            assert EntryProof(number, tuple(hashes), note).check(entry) == last
        # Tiles of sizes that were signed are there in the width they had.
        for earlier in seen:
            for tile in tiles.right_edge(earlier.size):
                width = tiles.width_of(tile, earlier.size)
                assert await logs.tile(connection, tenant_id, tile, width) is not None
        assert await logs.tile(connection, tenant_id, Tile(0, 9), 1) is None
        assert await logs.tile(connection, tenant_id, Tile(0, 2), WIDTH) is None
        assert await logs.positions(connection, tenant_id, 2, WIDTH) is None
        with pytest.raises(LookupError):
            await logs.root(connection, tenant_id, last.size + 1)


async def test_a_sealer_goes_on_where_another_was_and_signs_the_same(
    scene: Scene, tmp_path: Path
) -> None:
    tenant_id = TENANTS[0]
    await scene.record(tenant_id, 10)
    await scene.seal()
    before = await scene.checkpoint(tenant_id)
    await scene.record(tenant_id, 5)
    signer = Signer.read(tmp_path / "key.pem")
    again = CheckpointSigner(signer, ORIGIN, tmp_path / "signed")
    other = Sealer(scene.pool, again, 3600.0)
    await other.tick()
    await other.sign()
    after = await scene.checkpoint(tenant_id)
    assert (before.size, after.size) == (10, 15)
    async with scene.pool.acquire() as connection:
        # What is signed already is signed alike.
        note = await again.checkpoint(connection, tenant_id, 15)
        assert str(note) == await logs.checkpoint(connection, tenant_id, 15)


@pytest.mark.parametrize("rewritten", ["cut", "altered"])
async def test_a_log_that_was_rewritten_is_not_signed(scene: Scene, rewritten: str) -> None:
    """Whoever owns the database can make a log of their own; the signer remembers the true one."""
    tenant_id, other = TENANTS[:2]
    await scene.record(tenant_id, 300)
    await scene.record(other, 1)
    await scene.seal()
    true = await scene.checkpoint(tenant_id)
    async with scene.pool.acquire() as connection:
        for table in ("log_tile", "log_bundle", "log_checkpoint", "transparency_log"):
            await connection.execute(f"DELETE FROM {table} WHERE tenant_id = $1", tenant_id)
        if rewritten == "cut":
            await connection.execute(
                "DELETE FROM event WHERE tenant_id = $1 AND version > 290", tenant_id
            )
        else:
            await connection.execute(
                "UPDATE event SET occurred_at = occurred_at - interval '1 day' "
                "WHERE tenant_id = $1 AND version = 7", tenant_id
            )  # fmt: skip
        positions = [
            row["position"]
            for row in await connection.fetch(
                "SELECT position FROM event WHERE tenant_id = $1 ORDER BY position", tenant_id
            )
        ]
        await logs.add(connection, await events_at(connection, positions))
        with pytest.raises(InconsistentLogError):
            await scene.checkpoints.checkpoint(connection, tenant_id, len(positions))
    # Everybody else's log goes on.
    await scene.record(other, 1)
    await scene.seal()
    assert (await scene.checkpoint(other)).size == 2
    async with scene.pool.acquire() as connection:
        assert await logs.newest(connection, tenant_id) is None
    assert true.size == 300


async def test_what_another_machine_has_signed_counts_too(scene: Scene, tmp_path: Path) -> None:
    """A sealer with a folder of its own knows what the key has signed of what the store has."""
    tenant_id = TENANTS[0]
    await scene.record(tenant_id, 5)
    await scene.seal()
    elsewhere = CheckpointSigner(scene.signer, ORIGIN, tmp_path / "elsewhere")
    async with scene.pool.acquire() as connection:
        await connection.execute("UPDATE event SET type = 'thing.else.v1' WHERE version = 3")
        for table in ("log_tile", "log_bundle", "transparency_log"):
            await connection.execute(f"DELETE FROM {table}")
        await logs.add(connection, await events_at(connection, [1, 2, 3, 4, 5]))
        with pytest.raises(InconsistentLogError, match="not what was signed of it at 5"):
            await elsewhere.checkpoint(connection, tenant_id, 5)
        # What somebody else has signed does not count.
        stranger = Signer.generate(tmp_path / "stranger.pem")
        forged = CheckpointSigner(stranger, ORIGIN, tmp_path / "forged")
        note = await logs.checkpoint(connection, tenant_id, 5)
        assert (await forged.checkpoint(connection, tenant_id, 5)).text != read_note(
            note or ""
        ).text


async def test_an_altered_event_no_longer_is_the_entry_that_was_signed(scene: Scene) -> None:
    tenant_id = TENANTS[0]
    await scene.record(tenant_id, 4)
    await scene.seal()
    checkpoint = await scene.checkpoint(tenant_id)
    async with scene.pool.acquire() as connection:
        await connection.execute("UPDATE event SET type = 'thing.else.v1' WHERE version = 3")
    assert root_of(await scene.entries(tenant_id, 4)) != checkpoint.root


async def test_erasing_data_changes_no_entry(scene: Scene) -> None:
    tenant_id = TENANTS[0]
    await scene.record(tenant_id, 4)
    await scene.seal()
    checkpoint = await scene.checkpoint(tenant_id)
    async with scene.pool.acquire() as connection:
        await connection.execute("UPDATE event SET data = NULL, salt = NULL")
    assert root_of(await scene.entries(tenant_id, 4)) == checkpoint.root


async def test_what_was_recorded_without_salt_is_entered_without_digests(scene: Scene) -> None:
    tenant_id = TENANTS[0]
    await scene.record(tenant_id, 2)
    async with scene.pool.acquire() as connection:
        await connection.execute(
            "UPDATE event SET formula = 1, salt = NULL, metadata_salt = NULL WHERE version = 1"
        )
    await scene.seal()
    old, new = map(json.loads, await scene.entries(tenant_id, 2))
    assert (old["data"], old["metadata"], old["chain"]) == (None, None, None)
    assert new["data"] is not None


def test_keys_are_in_files_of_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    signer = Signer.generate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Signer.read(path).public == signer.public
    with pytest.raises(FileExistsError):
        Signer.generate(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Signer.read(path)
    for told in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        (bad := tmp_path / "bad").write_bytes(told)
        bad.chmod(0o600)
        with pytest.raises(KeyFileError, match="no private key"):
            Signer.read(bad)
    with pytest.raises(KeyFileError, match="No such file"):
        Signer.read(tmp_path / "none")


def test_signatures_are_of_one_key_name_and_kind() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    log_signature = signer.sign("log", "text\n")
    cosignature = signer.cosign("witness", "text\n", 1_700_000_000)
    log_key, witness = signer.key("log"), signer.key("witness", COSIGNATURE)
    assert verify(log_key, b"text\n", log_signature)
    assert verify(witness, b"text\n", cosignature)
    assert not verify(log_key, b"text", log_signature)
    assert not verify(log_key, b"text\n", cosignature)
    assert not verify(witness, b"text\n", log_signature)
    assert not verify(Key("log", 9, log_key.public), b"text\n", log_signature)
    assert not verify(Key("log", 1, b"short"), b"text\n", log_signature)
