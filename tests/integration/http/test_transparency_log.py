"""The log of a tenant over HTTP: what is served checks out, and nothing else is served."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.api import Api, new_notebook
from support.event_store import METADATA, new_event
from support.shared_api import api, api_server

from nbledger_audit import stamps
from nbledger_audit.keys import Signer, verify
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.checkpoints import LogCheckpoint, read_checkpoint
from nbledger_domain.transparency.notes import Key, Note, read_note
from nbledger_domain.transparency.proofs import EntryProof, read_proof
from nbledger_domain.transparency.tiles import HASH_BYTES, WIDTH, Tile, index_path, width_of
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

ORIGIN = "ledger.example.com"


class Log:
    """A tenant's log, read over HTTP by an auditor."""

    def __init__(self, api: Api, client: httpx.AsyncClient, sealer: Sealer) -> None:
        self.api = api
        self.client = client
        self._sealer = sealer

    async def record(self, count: int, tenant_id: UUID | None = None) -> None:
        stream = Stream(uuid4(), uuid4(), tenant_id or self.api.tenant_id, uuid4())
        events = [new_event(b'{"n": %d}' % number) for number in range(count)]
        await self.api.store.append(stream, events, expected_version=0, metadata=METADATA)

    async def seal(self) -> None:
        await self._sealer.tick()
        await self._sealer.sign()

    async def get(self, path: str, **options: Any) -> httpx.Response:
        answer = await self.client.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer

    async def checkpoint(self) -> tuple[Note, LogCheckpoint]:
        """The newest checkpoint, its signature checked with the key that is told."""
        told = (await self.get("")).json()
        key = Key.read(told["verifierKeys"][0])
        answer = await self.get("/checkpoint")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["cache-control"] == "private, max-age=1"
        note = read_note(answer.text)
        assert note.signed_by([key], verify) == (key,)
        checkpoint = read_checkpoint(note)
        assert checkpoint.origin == key.name == told["origin"]
        assert checkpoint.size == told["size"]
        return note, checkpoint


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.generate(tmp_path_factory.mktemp("sealer") / "key.pem")


@pytest.fixture
async def log(api: Api, signer: Signer, tmp_path: Path) -> Log:
    checkpoints = CheckpointSigner(signer, ORIGIN, tmp_path / "signed")
    async with api.pool.acquire() as connection:
        await checkpoints.tell_key(connection)
    client = await api.client(Role.AUDITOR, base=f"/audit/log/{api.tenant_id}")
    return Log(api, client, Sealer(api.pool, checkpoints, 3600.0))


def unbundled(bundle: bytes) -> list[bytes]:
    entries = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        entries.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return entries


@pytest.mark.guarantee("G37")
async def test_a_stranger_computes_the_whole_tree_from_what_is_served(log: Log) -> None:
    await log.record(300)
    await log.record(3, uuid4())
    await log.seal()
    await log.record(5)
    _, checkpoint = await log.checkpoint()
    assert checkpoint.size == 300
    entries: list[bytes] = []
    for index, width in ((0, WIDTH), (1, 44)):
        answer = await log.get(f"/tile/entries/{index_path(index, width)}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        plain = await log.get(
            f"/tile/entries/{index_path(index, width)}", headers={"Accept-Encoding": "identity"}
        )
        assert plain.content == answer.content
        assert "content-encoding" not in plain.headers
        entries += unbundled(answer.content)
    assert [json.loads(entry)["number"] for entry in entries] == list(range(300))
    kept = tiles.append({}, 0, [merkle.leaf_hash(entry) for entry in entries])
    assert tiles.proof_of((merkle.root(300),), kept) == [checkpoint.root]
    for tile, hashes in kept.items():
        width = width_of(tile, checkpoint.size)
        answer = await log.get(f"/tile/{tile.level}/{index_path(tile.number, width)}")
        assert answer.content == hashes
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "immutable" in answer.headers["cache-control"]
    # A partial tile of an earlier checkpoint stays, beside the full one.
    await log.record(300)
    await log.seal()
    earlier = await log.get(f"/tile/0/{index_path(1, 44)}")
    assert earlier.content == kept[Tile(0, 1)]
    assert (await log.get("/tile/0/001")).content[: 44 * HASH_BYTES] == earlier.content


async def test_no_tile_is_served_beyond_what_is_signed(log: Log) -> None:
    unsealed = await log.client.get("/checkpoint")
    assert (unsealed.status_code, unsealed.json()["code"]) == (404, "log_not_found")
    assert (await log.get("")).json()["size"] == 0
    await log.record(257)
    await log._sealer._enter()
    refused = ["0/000", "0/000.p/1", "entries/000", "entries/000.p/1", "1/000.p/1"]
    for path in refused:
        assert (await log.client.get(f"/tile/{path}")).status_code == 404, path
    await log.seal()
    for path in ("0/000", "0/000.p/1", "0/001.p/1", "1/000.p/1", "entries/001.p/1"):
        await log.get(f"/tile/{path}")
    for path in (
        *("0/001.p/2", "0/001", "0/002.p/1", "1/000", "1/000.p/2", "2/000.p/1", "64/000"),
        *("00/000", "0/000.p/256", "0/000.p/0", "0/000.p/01", "0/0", "0/x000/000", "0/"),
        *("-1/000", "a/000", "entries/002", "entries/001.p/2", "+0/000"),
        *("data/000", "0/" + "x999/" * 9 + "999", "0/x999/" * 6 + "999", "0/%30%30%30.p/x"),
    ):
        answer = await log.client.get(f"/tile/{path}")
        assert answer.status_code == 404, path


@pytest.mark.guarantee("G37")
async def test_each_event_is_proved_by_itself(log: Log) -> None:
    await log.record(260)
    await log.seal()
    note, checkpoint = await log.checkpoint()
    events = [
        event
        for event in await log.api.store.read_all(after_position=0, limit=10_000)
        if event.tenant_id == log.api.tenant_id
    ]
    for number in (0, 1, 255, 256, 259):
        event = events[number]
        by_id = (await log.get("/inclusion", params={"event": str(event.event_id)})).json()
        by_position = await log.get("/inclusion", params={"position": event.position})
        assert by_position.json() == by_id
        hashes = tuple(map(base64.b64decode, by_id["hashes"]))
        proof = EntryProof(by_id["number"], hashes, read_note(by_id["checkpoint"]))
        assert proof.check(by_id["entry"].encode()) == checkpoint
        assert str(proof.checkpoint) == str(note)
        told = json.loads(by_id["entry"])
        assert (told["id"], told["number"]) == (str(event.event_id), number)
        file = await log.get(
            "/inclusion", params={"event": str(event.event_id), "format": "tlog-proof"}
        )
        assert file.headers["content-type"] == "text/plain; charset=utf-8"
        assert file.headers["content-disposition"] == f'attachment; filename="{number}.tlog-proof"'
        read = read_proof(file.text)
        assert read.extra.decode() == by_id["entry"]
        assert read.check(read.extra) == checkpoint
        with pytest.raises(merkle.ProofError):
            read.check(read.extra.replace(b"v1", b"v2"))


async def test_what_cannot_be_proved_says_why(log: Log) -> None:
    other = uuid4()
    await log.record(2, other)
    await log.record(2)
    await log.seal()
    await log.record(1)
    events = await log.api.store.read_all(after_position=0, limit=10_000)
    foreign = next(event for event in events if event.tenant_id == other)
    newest = events[-1]
    asked: tuple[tuple[dict[str, str | int], int, str], ...] = (
        ({"event": str(newest.event_id)}, 404, "event_not_signed"),
        ({"position": newest.position}, 404, "event_not_signed"),
        ({"event": str(foreign.event_id)}, 404, "event_not_found"),
        ({"position": foreign.position}, 404, "event_not_found"),
        ({"event": str(uuid4())}, 404, "event_not_found"),
        ({"position": 2**63 - 1}, 404, "event_not_found"),
        ({}, 422, "validation_failed"),
        ({"event": str(uuid4()), "position": 1}, 422, "validation_failed"),
        ({"event": "x"}, 404, "event_not_found"),
        ({"position": 0}, 422, "validation_failed"),
        ({"position": 1, "format": "xml"}, 422, "validation_failed"),
    )
    for params, status, code in asked:
        answer = await log.client.get("/inclusion", params=params)
        assert (answer.status_code, answer.json()["code"]) == (status, code), params
        assert ("retry-after" in answer.headers) is (code == "event_not_signed")


@pytest.mark.guarantee("G38")
async def test_whoever_kept_a_checkpoint_sees_that_the_log_only_grew(log: Log) -> None:
    seen: list[LogCheckpoint] = []
    for count in (1, 255, 1, 300):
        await log.record(count)
        await log.seal()
        seen.append((await log.checkpoint())[1])
    newest = (await log.checkpoint())[0]
    for at, earlier in enumerate(seen):
        for later in seen[at:]:
            answer = await log.get("/consistency", params={"from": earlier.size, "to": later.size})
            told = answer.json()
            hashes = list(map(base64.b64decode, told["hashes"]))
            assert len(hashes) <= 30
            merkle.check_consistency(earlier.size, earlier.root, later.size, later.root, hashes)
            assert read_checkpoint(read_note(told["checkpoint"])) == later
        told = (await log.get("/consistency", params={"from": earlier.size})).json()
        assert (told["to"], told["checkpoint"]) == (557, str(newest))
    told = (await log.get("/consistency", params={"from": 100, "to": 200})).json()
    assert told["checkpoint"] is None
    for params, pointer in (
        ({"from": 1, "to": 558}, "?to"),
        ({"from": 558}, "?from"),
        ({"from": 3, "to": 2}, "?from"),
        ({"from": -1}, "?from"),
        ({"from": "x"}, "?from"),
        ({"to": 0}, "?to"),
    ):
        answer = await log.client.get("/consistency", params=params)
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer], params


@pytest.mark.guarantee("G20")
async def test_the_log_is_for_those_who_may_read_all_of_its_history(log: Log) -> None:
    await log.record(3)
    await log.seal()
    event = uuid.UUID(int=1)
    paths = (
        *("", "/checkpoint", "/tile/0/000.p/3", "/tile/entries/000.p/3"),
        *(f"/inclusion?event={event}", "/consistency?from=1"),
    )
    base = f"/audit/log/{log.api.tenant_id}"
    foreign = await log.api.client(Role.ADMIN, tenant_id=uuid4(), base=base)
    anonymous = log.api.anonymous(base=base)
    some = await log.api.client(Role.ADMIN, project_ids=[log.api.project_id], base=base)
    for path in paths:
        assert (await anonymous.get(path)).status_code == 401
        answer = await foreign.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "log_not_found")
        for role in (Role.READER, Role.EDITOR):
            answer = await (await log.api.client(role, base=base)).get(path)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert "admin or auditor" in answer.json()["detail"]
        answer = await some.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "all projects" in answer.json()["detail"]
        admin = await log.api.client(Role.ADMIN, base=base)
        assert (await admin.get(path)).status_code == (404 if "inclusion" in path else 200)
        head = await admin.head(path)
        assert head.content == b""
    malformed = await log.api.client(Role.ADMIN, base="/audit/log/x")
    assert (await malformed.get("/checkpoint")).json()["code"] == "log_not_found"


async def test_a_key_that_was_replaced_is_still_told(log: Log, tmp_path: Path) -> None:
    await log.record(3)
    await log.seal()
    (before,) = (await log.get("")).json()["verifierKeys"][:1]
    second = Signer.generate(tmp_path / "second.pem")
    checkpoints = CheckpointSigner(second, ORIGIN, tmp_path / "signed")
    async with log.api.pool.acquire() as connection:
        await checkpoints.tell_key(connection)
    await log.record(4)
    sealer = Sealer(log.api.pool, checkpoints, 3600.0)
    await sealer.tick()
    keys = (await log.get("")).json()["verifierKeys"]
    assert keys.index(before) > 0
    assert keys[0] == second.key(f"{ORIGIN}/audit/log/{log.api.tenant_id}").encoded
    assert (await log.checkpoint())[1].size == 7


@pytest.mark.guarantee("G51")
async def test_a_provenance_tells_where_its_run_is_in_the_log(log: Log) -> None:
    editor = await log.api.client(Role.EDITOR)
    notebook = await new_notebook(editor, "1")
    path = f"/notebook/{notebook['notebookId']}"
    asked = (await editor.post(f"{path}/execute")).json()
    run = f"{path}/execution/{asked['executionId']}"
    await log.seal()
    cancelled = await editor.post(f"{run}/cancel")
    assert cancelled.status_code == 202
    auditor = await log.api.client(Role.AUDITOR)
    told = (await auditor.get(f"{run}/provenance")).json()
    proved = (await log.get(f"/inclusion?position={told['firstPosition']}")).json()
    _, checkpoint = await log.checkpoint()
    assert told["log"] == {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "requested": proved["number"],
        "last": None,
    }
    await log.seal()
    told = (await auditor.get(f"{run}/provenance")).json()
    last = (await log.get(f"/inclusion?position={told['lastPosition']}")).json()
    assert told["log"]["last"] == last["number"] > proved["number"]
    # An editor does not read histories.
    assert (await editor.get(f"{run}/provenance")).json()["log"] is None


async def test_timestamps_are_listed_with_what_they_stamp(log: Log) -> None:
    await log.record(3)
    await log.seal()
    assert (await log.get("/timestamps")).json() == {"items": []}
    note, _ = await log.checkpoint()
    at = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    async with log.api.pool.acquire() as connection:
        for hours in range(3):
            response = b"stamp %d" % hours
            moment = at + timedelta(hours=hours)
            await stamps.keep(connection, log.api.tenant_id, 3, moment, response)
        await stamps.keep(connection, uuid4(), 3, at, b"of another tenant")
    assert [item["at"] for item in (await log.get("/timestamps")).json()["items"]] == [
        f"2024-01-15T{hour}:30:00.000Z" for hour in (12, 11, 10)
    ]
    (last,) = (await log.get("/timestamps?page=3&pageSize=1")).json()["items"]
    assert last == {
        "size": 3,
        "at": "2024-01-15T10:30:00.000Z",
        "checkpoint": str(note),
        "response": base64.b64encode(b"stamp 0").decode(),
    }
