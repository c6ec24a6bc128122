"""Witnesses of others: litewitness cosigns our log; torchwood verifies what our witness signs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.event_store import open_pool, open_store
from support.paths import TESTS
from support.tlog import SmallLog, new_signer
from support.witnessed_log import ORIGIN, TENANT, Sealing
from support.witnesses import serving

from nbledger.embedded.ports import free_port
from nbledger_audit.cosigning import told
from nbledger_domain.transparency.notes import COSIGNATURE, Key
from nbledger_domain.transparency.witnessing import AddCheckpoint

pytestmark = [pytest.mark.third_party, pytest.mark.timeout(600)]

LITEWITNESS = "filippo.io/torchwood/cmd/litewitness@v0.6.1"
VERIFIER = TESTS / "integration" / "http" / "tlogcheck"
BUILD_SECONDS = 550
SECONDS = 60


def built(command: str, *arguments: str | Path, folder: Path, **environment: str) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    subprocess.run(
        [go, command, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
        timeout=BUILD_SECONDS,
    )


@pytest.fixture(scope="module")
def litewitness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("litewitness")
    built("install", LITEWITNESS, folder=folder, GOBIN=str(folder), GOFLAGS="-buildvcs=false")
    return folder / "litewitness"


@pytest.fixture(scope="module")
def cosigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("cosigned") / "cosigned"
    flags = "-mod=readonly -buildvcs=false"
    built("build", "-o", program, "./cosigned", folder=VERIFIER, GOFLAGS=flags)
    return program


class KeyAgent:
    """As much of an ssh-agent as signs with one Ed25519 key: litewitness keeps none itself."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell the key, and sign."""
        blob = _string(b"ssh-ed25519") + _string(self.public)
        try:
            while True:
                request = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                if request[0] == 11:
                    told = b"\x0c\x00\x00\x00\x01" + _string(blob) + _string(b"witness")
                else:
                    assert request[0] == 13
                    assert request[1:].startswith(_string(blob))
                    signed = request[1 + len(_string(blob)) + 4 : -4]
                    signature = _string(b"ssh-ed25519") + _string(self._private.sign(signed))
                    told = b"\x0e" + _string(signature)
                writer.write(_string(told))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


class Litewitness:
    """The witness of others, and the database in which it keeps the logs that it knows."""

    def __init__(self, url: str, key: Key, database: Path) -> None:
        self.url = url
        self.key = key
        self._database = database

    def learn(self, vkey: str) -> None:
        """Know a log; witnessctl does so."""
        origin = Key.read(vkey).name
        empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        with closing(sqlite3.connect(self._database)) as database, database:
            database.execute("INSERT INTO log VALUES (?, 0, ?)", (origin, empty))
            database.execute("INSERT INTO key VALUES (?, ?)", (origin, vkey))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For a socket, whose path has to be short."""
    with tempfile.TemporaryDirectory(prefix="nbl-") as folder:
        yield Path(folder)


@asynccontextmanager
async def running(program: Path, folder: Path, *vkeys: str) -> AsyncIterator[Litewitness]:
    agent = KeyAgent()
    port = free_port()
    name, database = "litewitness.example/w", folder / "witness.db"
    async with await asyncio.start_unix_server(agent.answer, folder / "agent"):
        process = await asyncio.create_subprocess_exec(
            program,
            *("-name", name, "-db", database, "-listen", f"127.0.0.1:{port}"),
            *("-ssh-agent", folder / "agent"),
            *("-key", hashlib.sha256(agent.public).hexdigest()),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            witness = Litewitness(
                f"http://127.0.0.1:{port}", Key(name, COSIGNATURE, agent.public), database
            )
            async with asyncio.timeout(SECONDS):
                while not await _listens(port):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
                for vkey in vkeys:
                    await asyncio.to_thread(witness.learn, vkey)
                yield witness
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.guarantee("G41")
async def test_witnesses_of_both_kinds_cosign_and_others_verify_it(
    database_dsn: str, tmp_path: Path, short_folder: Path, litewitness: Path, cosigned: Path
) -> None:
    async with (
        open_pool(database_dsn) as pool,
        open_store(pool) as store,
    ):
        sealing = Sealing(pool, store, tmp_path)
        ours = tmp_path / "ours"
        ours.mkdir()
        async with (
            running(litewitness, short_folder, sealing.vkey) as theirs,
            serving(ours, sealing.vkey, name="witness.example/ours") as own,
        ):
            await sealing.tell(
                f"witness theirs {theirs.key.encoded} {theirs.url}\n"
                f"witness ours {own.key.encoded} {own.url}\n"
                "group both all theirs ours\nquorum both\n"
            )
            size = 0
            for count in (3, 1, 296, 9):
                await sealing.record(count)
                size += count
                if count == 296:  # nobody remembers what they have: they say so
                    await sealing.execute("DELETE FROM log_witness")
                await sealing.ask(0)
                await sealing.ask(1)
                assert await sealing.shown() == (size, {"theirs", "ours"})
                async with sealing.pool.acquire() as connection:
                    policy = sealing.policy
                    states = await told.witness_states(connection, TENANT, policy)
                assert [(each.size, each.problem) for each in states] == [(size, ""), (size, "")]
            note = await sealing.published()
        keys = (sealing.vkey, theirs.key.encoded, own.key.encoded)
        checked = await asyncio.to_thread(_verified, cosigned, str(note), *keys)
        lines = checked.stdout.splitlines()
        assert lines[0] == f"{ORIGIN} {size}", checked.stderr
        assert {each.split()[0] for each in lines[1:]} == {theirs.key.name, own.key.name}
        altered = str(note).replace(f"\n{size}\n", f"\n{size - 1}\n")
        checked = await asyncio.to_thread(_verified, cosigned, altered, *keys)
        assert checked.returncode == 1


def _verified(program: Path, note: str, *keys: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *keys], input=note, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.mark.guarantee("G41")
async def test_both_witnesses_answer_the_same(
    tmp_path: Path, short_folder: Path, litewitness: Path
) -> None:
    """Whatever is asked, and in whatever order; a request that is none aside."""
    async with serving(tmp_path) as ours:
        log = ours.log
        other = SmallLog(log.signer, log.origin, "another history ")
        stranger = SmallLog(new_signer(tmp_path, "stranger"), log.origin)
        size, seen = 0, set()
        async with (
            running(litewitness, short_folder, log.vkey) as theirs,
            httpx.AsyncClient() as client,
        ):
            for number in range(100):
                grown = size + random.choice((0, 1, 2, 5, random.randrange(1, 50)))
                shown = random.choice((log, log, log, other, stranger))
                old = random.choice((size, size, size, random.randrange(grown + 3)))
                request = shown.request(min(old, grown), grown)
                if random.random() < 0.2 and request.proof:
                    proof = (*request.proof[1:], request.proof[0][::-1])
                    request = AddCheckpoint(request.old, proof, request.note)
                if random.random() < 0.1:
                    request = AddCheckpoint(old, request.proof, request.note)
                if not size and (request.old, shown) != (0, log):
                    continue
                if request.old == 0 and request.proof:
                    continue  # litewitness does not look at what proves nothing
                answers = [
                    await client.post(f"{url}/add-checkpoint", content=str(request).encode())
                    for url in (ours.url, theirs.url)
                ]
                statuses = [each.status_code for each in answers]
                assert statuses[0] == statuses[1], (number, str(request), size)
                seen.add(statuses[0])
                if statuses[0] == 409:
                    assert answers[0].text == answers[1].text
                    types = [each.headers["content-type"] for each in answers]
                    assert types == ["text/x.tlog.size"] * 2
                if statuses[0] == 200:
                    size = grown
        assert {200, 403, 409, 422} <= seen
