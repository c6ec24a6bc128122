"""The sealer's witnesses: what they sign is kept and shown, and what they do wrong is told."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.event_store import METADATA, new_event, open_pool, open_store
from support.tlog import SmallLog, new_signer
from support.witnessed_log import INSTALLATION, ORIGIN, TENANT, Sealing, line
from support.witnesses import Served, serving

from nbledger_audit import logs, sealer
from nbledger_audit.cosigning import client, kept
from nbledger_audit.cosigning.asking import Asking
from nbledger_audit.cosigning.client import WitnessAwayError, http_client
from nbledger_audit.cosigning.kept import Due
from nbledger_audit.cosigning.policy import open_policy
from nbledger_domain.transparency.notes import COSIGNATURE, Key
from nbledger_domain.transparency.policies import Policy
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.settings import Audit, Postgres, Settings
from nbledger_infrastructure.settings_loading import SettingsError

SECONDS = 60


@pytest.fixture
async def sealing(database_dsn: str, tmp_path: Path) -> AsyncIterator[Sealing]:
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        yield Sealing(pool, store, tmp_path)


@asynccontextmanager
async def knowing(sealing: Sealing, folder: Path) -> AsyncIterator[Served]:
    """A witness that knows the log."""
    folder.mkdir()  # noqa: ASYNC240 (a folder of the test's own)
    async with serving(folder, sealing.vkey, name=f"witness.example/{folder.name}") as served:
        yield served


@pytest.mark.guarantee("G42")
async def test_checkpoints_are_cosigned_as_the_log_grows(sealing: Sealing, tmp_path: Path) -> None:
    async with knowing(sealing, tmp_path / "w1") as witness:
        await sealing.tell(f"{line(witness, 'w1')}quorum w1")
        for size in (3, 300, 301):
            await sealing.record({3: 3, 300: 297, 301: 1}[size])
            await sealing.ask()
            assert await sealing.shown() == (size, {"w1"})
            assert await sealing.problem() == ""
        before = await sealing.published()
        with capture_logs() as logged:
            await sealing.ask()
        assert logged == [], "nothing is due"
        # Nobody remembers what the witness has: it says so itself.
        await sealing.execute("DELETE FROM log_witness")
        await sealing.record(9)
        await sealing.ask()
        assert await sealing.shown() == (310, {"w1"})
        # A sealer that was stopped for a while asks for what another one has long gone beyond.
        async with http_client() as http:
            late = Asking(sealing.pool, sealing.policy, sealing.policy.witnesses[0], http)
            await late._ask(Due(TENANT, 300, 3, ""))
        assert await sealing.shown() == (310, {"w1"})
        assert await sealing.problem() == ""
        # And what was cosigned before takes the place of nothing.
        async with sealing.pool.acquire() as connection:
            witness_key = sealing.policy.witnesses[0].key
            (_, late_one) = before.signatures
            await kept.keep(
                connection, TENANT, 301, late_one, witness=witness_key, policy=sealing.policy
            )
        assert await sealing.shown() == (310, {"w1"})
        # Half the maximum age later the cosignature is renewed, in the place of the first.
        await sealing.execute("UPDATE log_witness SET asked_at = asked_at - interval '301 seconds'")
        await sealing.ask()
        after = await sealing.published()
        assert [each.name for each in after.signatures] == [ORIGIN, "witness.example/w1"]
        async with sealing.pool.acquire() as connection:
            assert await logs.checkpoint(connection, TENANT, 301) == str(before)


async def test_only_a_checkpoint_of_this_moment_is_cosigned(
    sealing: Sealing, tmp_path: Path
) -> None:
    """Of an older one, what was recorded since would look as if it was dated back."""
    async with knowing(sealing, tmp_path / "w1") as witness:
        await sealing.tell(f"{line(witness, 'w1')}quorum none")
        await sealing.record(3)
        stale = "UPDATE transparency_log SET confirmed_at = confirmed_at - interval '1 minute'"
        await sealing.execute(stale)
        await sealing.ask()
        assert await sealing.shown() == (3, set())
        # It is signed anew for that.
        await sealing.sealer.sign()
        await sealing.ask()
        assert await sealing.shown() == (3, {"w1"})
        # Nothing is signed for a cosignature that nobody needs yet.
        await sealing.execute(stale)
        await sealing.ask()
        async with sealing.pool.acquire() as connection:
            assert not await connection.fetchval("SELECT renewal FROM transparency_log")


@pytest.mark.guarantee("G42")
async def test_what_is_shown_has_its_witnesses_unless_they_stay_away(
    sealing: Sealing, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(knowing(sealing, tmp_path / name))
            for name in ("w1", "w2")
        ]
        both = line(first, "w1") + line(second, "w2") + "group both all w1 w2\n"
        await sealing.tell(f"{both}quorum both")
        await sealing.record(3)
        assert await sealing.shown() == (3, set()), "there is none with a quorum yet"
        await sealing.ask(0)
        await sealing.ask(1)
        assert await sealing.shown() == (3, {"w1", "w2"})
        await sealing.record(5)
        await sealing.ask(0)
        assert await sealing.shown() == (3, {"w1", "w2"}), "the second has not cosigned yet"
        aged = "UPDATE transparency_log SET witnessed_at = witnessed_at - interval '600 seconds'"
        await sealing.execute(aged)
        assert await sealing.shown() == (8, {"w1"}), "nobody would accept the older one now"
        await sealing.ask(1)
        assert await sealing.shown() == (8, {"w1", "w2"})
        # Another policy: what is shown is judged by it, once the witnesses are asked anew.
        await sealing.record(1)
        await sealing.tell(f"{both}quorum w2")
        assert await sealing.shown() == (9, set())
        await sealing.ask(1)
        assert await sealing.shown() == (9, {"w2"})
        await sealing.record(1)
        await sealing.tell(f"{both}quorum none")
        assert await sealing.shown() == (10, set())


@pytest.mark.guarantee("G41")
async def test_a_log_that_shows_two_histories_gets_cosignatures_for_one(
    sealing: Sealing, tmp_path: Path
) -> None:
    async with knowing(sealing, tmp_path / "w1") as witness:
        await sealing.tell(f"{line(witness, 'w1')}quorum w1")
        # To somebody else the same key has shown this one.
        other = SmallLog(sealing.signer, ORIGIN)
        async with http_client() as http:
            asked = client.WitnessClient(sealing.policy.witnesses[0], http)
            await asked.cosign(other.request(0, 5))
        await sealing.record(3)
        await sealing.ask()
        assert await sealing.problem() == (
            "says that it has cosigned 5 entries, of which 3 are signed"
        )
        await sealing.record(5)
        await sealing.execute("UPDATE log_witness SET asked_at = '-infinity'")
        with capture_logs() as logged:
            await sealing.ask()
        assert (await sealing.problem()).startswith("answers 422: it finds that the log has not")
        told_of = [each for each in logged if each["event"] == "witness does not cosign"]
        assert [each["log_level"] for each in told_of] == ["warning"]
        assert await sealing.shown() == (8, set())


Respond = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def answering(respond: Respond) -> AsyncIterator[str]:
    """Something else than a witness at the address of one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            writer.write(await respond(await reader.readexactly(length)))
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def http_answer(status: int, body: bytes, *headers: bytes) -> bytes:
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n" % (status, len(body))
    return head + b"".join(each + b"\r\n" for each in headers) + b"Connection: close\r\n\r\n" + body


LIES = {
    "a cosignature of another size": "answers with a false signature",
    "a cosignature of another key": "answers without a signature of its key",
    "a cosignature of the future": "dates its signature 1000 s ahead",
    "a cosignature of the past": "dates its signature 1000 s back",
    "no cosignature": "answers 200 with no good body: a signature is — <name> <base64>",
    "no text": "answers 200 with no good body: 'utf-8' codec can't decode byte 0xff in position 0",
    "another size each time": "names another size each time",
    "a size that is none": "answers 409 with no good body: the answer is no size of a tree",
    "a larger size": "says that it has cosigned 9 entries, of which 3 are signed",
    "a fault": "answers 500: it has a fault of its own",
    "a redirection": "answers 302: which tlog-witness does not have",
    "no log": "answers 404: it does not know the log",
}


@pytest.mark.guarantee("G42")
async def test_a_witness_that_lies_is_not_believed(sealing: Sealing, tmp_path: Path) -> None:
    signer, lie = new_signer(tmp_path, "w1"), ""
    key = signer.key("w1", COSIGNATURE)
    now = 1_000_000

    async def respond(body: bytes) -> bytes:
        text = body.decode().partition("\n\n")[2].rpartition("\n\n")[0] + "\n"
        larger = text.replace("\n3\n", "\n4\n")
        bodies = {
            "a cosignature of another size": signer.cosign("w1", larger, now).line,
            "a cosignature of another key": signer.cosign("w2", text, now).line,
            "a cosignature of the future": signer.cosign("w1", text, now + 1000).line,
            "a cosignature of the past": signer.cosign("w1", text, now - 1000).line,
            "no cosignature": "good\n",
            "the truth": signer.cosign("w1", text, now).line,
            "another size each time": "2\n" if body.startswith(b"old 1\n") else "1\n",
            "a size that is none": "three",
            "a larger size": "9\n",
        }
        statuses = {
            "another size each time": 409,
            "a size that is none": 409,
            "a larger size": 409,
            "a fault": 500,
            "a redirection": 302,
            "no log": 404,
        }
        told_body = b"\xff" if lie == "no text" else bodies.get(lie, "").encode()
        return http_answer(statuses.get(lie, 200), told_body, b"Location: /other")

    await sealing.record(3)
    async with answering(respond) as url, http_client() as http:
        await sealing.tell(f"witness w1 {key.encoded} {url}\nquorum w1")
        asking = Asking(sealing.pool, sealing.policy, sealing.policy.witnesses[0], http)
        asking._client = client.WitnessClient(sealing.policy.witnesses[0], http, lambda: now)
        for lie, problem in LIES.items():
            await sealing.execute("UPDATE log_witness SET asked_at = '-infinity'")
            with capture_logs() as logged:
                await asking.round()
                await asking.round()
            assert (await sealing.problem()).startswith(problem), lie
            assert [each["event"] for each in logged] == ["witness does not cosign"], lie
            assert await sealing.shown() == (3, set()), lie
        lie = "the truth"
        await sealing.execute("UPDATE log_witness SET asked_at = '-infinity'")
        await asking.round()
        assert await sealing.shown() == (3, {"w1"})


@pytest.mark.guarantee("G42")
@pytest.mark.parametrize("fault", ["nobody listens", "no answer", "no end", "too much", "busy"])
async def test_a_witness_that_is_away_is_left_alone(
    sealing: Sealing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.2)
    waits = asyncio.Event()

    async def respond(body: bytes) -> bytes:
        if fault == "busy":
            return http_answer(429, b"later\n")
        if fault == "too much":
            return http_answer(200, b"x" * 100_000)
        if fault == "no end":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nslow"
        await waits.wait()
        return b""

    await sealing.record(3)
    async with answering(respond) as answered:
        url = "http://127.0.0.1:1" if fault == "nobody listens" else answered
        key = new_signer(tmp_path, "w1").key("w1", COSIGNATURE)
        await sealing.tell(f"witness w1 {key.encoded} {url}\nquorum w1")
        for _ in range(2):  # it stays due: whoever comes back is asked at once
            with pytest.raises(WitnessAwayError):
                await sealing.ask()
        assert (await sealing.problem()).startswith("is away: ")
        waits.set()


@pytest.mark.guarantee("G42")
async def test_a_witness_that_hangs_holds_up_neither_sealing_nor_others(
    database_dsn: str, sealing: Sealing, tmp_path: Path
) -> None:
    forever = asyncio.Event()

    async def respond(body: bytes) -> bytes:
        await forever.wait()
        return b""

    async with answering(respond) as url, knowing(sealing, tmp_path / "w1") as witness:
        hangs = Key("hangs", COSIGNATURE, bytes(32)).encoded
        file = tmp_path / "witnesses"
        file.write_text(f"witness hangs {hangs} {url}\n{line(witness, 'w1')}quorum w1\n")
        settings = Settings(
            postgres=Postgres(dsn=database_dsn),
            audit=Audit(
                origin=INSTALLATION,
                key_file=str(tmp_path / "sealer.pem"),
                state_folder=str(tmp_path / "signed"),
                checkpoint_seconds=0.05,
                witness_file=str(file),
            ),
        )
        stop, ready = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(sealer.run(settings, stop, ready.set))
        async with asyncio.timeout(SECONDS):
            await ready.wait()
            sealing.policy = open_policy(settings.audit)
            size = 0
            for count in (3, 300):
                stream = Stream(uuid.uuid4(), uuid.uuid4(), TENANT, uuid.uuid4())
                events = [new_event(b"{}") for _ in range(count)]
                await sealing.store.append(stream, events, expected_version=0, metadata=METADATA)
                size += count
                await sealing.waited(size, {"w1"})
            stop.set()
            await running
        forever.set()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory"),
        ("quorum w", "line 1: w is not defined above"),
        ("witness w {key}\nquorum w", "w has no address to ask at"),
        ("witness w {key} ftp://w\nquorum w", "w has no address to ask at"),
        ("witness w {large} http://w\nquorum w", "the key of w is not Ed25519"),
        ("\xff", "codec can't decode"),
    ],
)
def test_a_file_of_witnesses_that_is_no_good_is_told(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    file = tmp_path / "witnesses"
    if text is not None:
        key = Key("w", COSIGNATURE, bytes(32)).encoded
        large = Key("w", 6, bytes(1312)).encoded
        file.write_bytes(text.format(key=key, large=large).encode("latin-1"))
    with pytest.raises(SettingsError) as error:
        open_policy(Audit(witness_file=str(file)))
    assert str(error.value).startswith(f"audit.witness_file: {file}: ")
    assert reason in str(error.value)


def test_without_a_file_nobody_is_asked() -> None:
    assert open_policy(Audit(maximum_age_seconds=60)) == Policy(maximum_age=60)
