"""The witness over HTTP: the protocol, and limits that hold whatever clients do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.tlog import SmallLog, new_signer
from support.witnesses import Served, serving

from nbledger_audit.keys import verify
from nbledger_audit.witness import server
from nbledger_audit.witness.connections import client_of
from nbledger_domain.transparency.notes import Key, read_note, read_signatures
from nbledger_domain.transparency.witnessing import origin_hash

SECONDS = 30


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def spoken(witness: Served, *parts: bytes) -> bytes:
    """What is answered until the witness ends the connection."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", witness.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


async def test_a_checkpoint_is_cosigned_over_http(witness: Served) -> None:
    log = witness.log
    async with httpx.AsyncClient(base_url=witness.url) as client:
        key = Key.read((await client.get("/")).text.strip())
        assert key == witness.key
        answer = await client.post("/add-checkpoint", content=str(log.request(0, 5)).encode())
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/plain; charset=utf-8",
        )
        (cosignature,) = read_signatures(answer.text)
        assert verify(key, log.note(5).text.encode(), cosignature)
        answer = await client.post("/add-checkpoint", content=str(log.request(0, 9)).encode())
        assert (answer.status_code, answer.text) == (409, "5\n")
        assert answer.headers["content-type"] == "text/x.tlog.size"
        kept = await client.get(f"/{origin_hash(log.origin)}/checkpoint")
        assert read_note(kept.text) == log.note(5).with_signatures([cosignature])

        async def parts() -> AsyncIterator[bytes]:
            for character in str(log.request(5, 9)):
                yield character.encode()

        chunked = await client.post("/add-checkpoint", content=parts())
        assert chunked.status_code == 200
        for method, path, status in (
            ("GET", "/add-checkpoint", 405),
            ("DELETE", "/", 405),
            ("GET", "/none", 404),
            ("GET", f"/{origin_hash('none')}/checkpoint", 404),
            ("GET", f"/{origin_hash(log.origin)}/checkpoint/", 404),
            ("GET", "/../state/lock", 404),
            ("POST", "/add-checkpoint", 400),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == status, (method, path)


async def test_connections_are_kept_and_ended_as_asked(witness: Served) -> None:
    get = b"GET / HTTP/1.1\r\nHost: w\r\n"
    answered = await spoken(
        witness, get + b"\r\n" + get + b"\r\n", get + b"Connection: close\r\n\r\n"
    )
    assert answered.count(b"HTTP/1.1 200") == 3
    body = str(witness.log.request(0, 5)).encode()
    waiting = await spoken(
        witness,
        b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body),
        body,
    )
    assert waiting.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200" in waiting


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: w\r\nX: " + b"x" * 60_000 + b"\r\n\r\n", b"431"),
        (
            b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 200000\r\n\r\n"
            + b"x" * 140_000,
            b"413",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"400",
        ),
    ],
)
async def test_what_is_too_large_or_no_http_ends_the_connection(
    witness: Served, told: bytes, status: bytes
) -> None:
    assert (await spoken(witness, told)).startswith(b"HTTP/1.1 %s " % status)


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"GET / HTT",
        b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 10\r\n\r\nold",
    ],
)
async def test_whoever_keeps_the_witness_waiting_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bytes
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.05)
    async with serving(tmp_path) as witness:
        assert await spoken(witness, told) == b""


async def test_so_many_connections_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    async with serving(tmp_path) as witness, asyncio.timeout(SECONDS):
        busy = [await _busy(witness) for _ in range(2)]
        assert await spoken(witness, b"GET / HTTP/1.1\r\nHost: w\r\n\r\n") == b""
        for writer in busy:
            writer.close()


async def test_so_many_requests_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUESTS_PER_SECOND", 3.0)
    async with serving(tmp_path) as witness, asyncio.timeout(SECONDS):
        statuses = set()
        reader, writer = await asyncio.open_connection("127.0.0.1", witness.port)
        while b"429" not in statuses:
            writer.write(b"GET / HTTP/1.1\r\nHost: w\r\n\r\n")
            line = await reader.readline()
            if line.startswith(b"HTTP/1.1"):
                statuses.add(line.split()[1])
        writer.close()


async def _busy(witness: Served) -> asyncio.StreamWriter:
    """A connection whose request has begun, and does not end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", witness.port)
    writer.write(
        b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nExpect: 100-continue\r\n"
        b"Content-Length: 10\r\n\r\n"
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 100")
    return writer


async def test_connections_of_one_client_keep_nobody_out(tmp_path: Path) -> None:
    get = b"GET / HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n"
    async with serving(tmp_path) as witness, asyncio.timeout(SECONDS):
        idle = [await asyncio.open_connection("127.0.0.1", witness.port) for _ in range(80)]
        assert (await spoken(witness, get)).startswith(b"HTTP/1.1 200")
        # The longest idle ones made room.
        assert await idle[0][0].read() == b""
        busy = [await _busy(witness) for _ in range(server.MOST_OF_ONE_CLIENT)]
        assert await spoken(witness, get) == b""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", witness.port, local_addr=("127.0.0.2", 0)
        )
        writer.write(get)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        for each in (writer, *busy, *(one for _, one in idle)):
            each.close()


async def test_whoever_comes_when_all_are_taken_takes_an_idle_one_of_who_holds_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    get = b"GET / HTTP/1.1\r\nHost: w\r\n\r\n"
    async with serving(tmp_path) as witness, asyncio.timeout(SECONDS):
        held = []
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.4"):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", witness.port, local_addr=(host, 0)
            )
            held.append((reader, writer))
            writer.write(get)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readline()
        assert await held[1][0].read() == b""
        for at in (0, 2, 3):
            held[at][1].write(get)
            assert (await held[at][0].readline()).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize(
    ("one", "other", "clients"),
    [
        (("127.0.0.1", 1), ("127.0.0.1", 2), 1),
        (("127.0.0.1", 1), ("127.0.0.2", 1), 2),
        (("::ffff:127.0.0.1", 1, 0, 0), ("127.0.0.1", 1), 1),
        (("2001:db8::1", 1, 0, 0), ("2001:db8::ffff:1", 1, 0, 0), 1),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:1::1", 1, 0, 0), 2),
        (("fe80::1%lo", 1, 0, 2), ("fe80::2", 1, 0, 0), 1),
    ],
)
def test_clients_are_told_apart_by_their_addresses(
    one: tuple[object, ...], other: tuple[object, ...], clients: int
) -> None:
    assert len({client_of(one), client_of(other)}) == clients


async def test_a_witness_that_is_ended_ends_its_connections(tmp_path: Path) -> None:
    async with serving(tmp_path) as witness:
        reader, writer = await asyncio.open_connection("127.0.0.1", witness.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: w\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(SECONDS):
        await reader.read()
    writer.close()


async def test_another_log_has_another_place(tmp_path: Path) -> None:
    second = SmallLog(new_signer(tmp_path, "second"), "ledger.example.com/second")
    async with (
        serving(tmp_path, second.vkey) as witness,
        httpx.AsyncClient(base_url=witness.url) as client,
    ):
        for log in (witness.log, second):
            body = str(log.request(0, 5)).encode()
            assert (await client.post("/add-checkpoint", content=body)).status_code == 200
        for log in (witness.log, second):
            kept = await client.get(f"/{origin_hash(log.origin)}/checkpoint")
            assert read_note(kept.text).text == log.note(5).text
