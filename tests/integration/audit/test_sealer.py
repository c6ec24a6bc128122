"""The sealer as a role: one works and another takes over, and none starts without its key."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from support.event_store import METADATA, new_event, open_pool, open_store
from support.sealers import installation

from nbledger_audit import logs, sealer, signing
from nbledger_audit.keys import Signer, verify
from nbledger_audit.memory import SignerMemory
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_domain.transparency.checkpoints import LogCheckpoint, origin_of, read_checkpoint
from nbledger_domain.transparency.notes import read_note
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Stream
from nbledger_infrastructure.settings import Audit, Postgres, Settings

TENANT = UUID(int=1)
ORIGIN = "ledger.example.com"
SECONDS = 60


class Sealing:
    """A sealer that runs in this process until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once it is at work, or stands by."""
        run = sealer.run(self._settings, self._stop, self._ready.set)
        self._task = asyncio.create_task(run)
        async with asyncio.timeout(SECONDS):
            await self._ready.wait()

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            async with asyncio.timeout(SECONDS):
                await self._task


async def record(store: EventStore, count: int) -> None:
    stream = Stream(uuid.uuid4(), uuid.uuid4(), TENANT, uuid.uuid4())
    events = [new_event(b"{}") for _ in range(count)]
    await store.append(stream, events, expected_version=0, metadata=METADATA)


async def signed(pool: Pool, signer: Signer, size: int) -> LogCheckpoint:
    """Wait for the checkpoint of so many entries; its signature is checked."""
    key = signer.key(origin_of(ORIGIN, TENANT))
    async with asyncio.timeout(SECONDS), pool.acquire() as connection:
        while True:
            newest = await logs.newest(connection, TENANT)
            if newest is not None:
                note = read_note(newest.note)
                assert note.signed_by([key], verify) == (key,)
                checkpoint = read_checkpoint(note)
                assert checkpoint.size <= size
                if checkpoint.size == size:
                    assert checkpoint.root == await logs.root(connection, TENANT, size)
                    return checkpoint
            await asyncio.sleep(0.02)


async def test_one_sealer_works_and_another_takes_over(database_dsn: str, tmp_path: Path) -> None:
    signer = Signer.generate(tmp_path / "key.pem")
    settings = Settings(
        postgres=Postgres(dsn=database_dsn),
        audit=Audit(
            origin=ORIGIN,
            key_file=str(tmp_path / "key.pem"),
            state_folder=str(tmp_path / "signed"),
            checkpoint_seconds=0.05,
        ),
    )
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(database_dsn))
        store = await stack.enter_async_context(open_store(pool))
        first, second, third = (Sealing(settings) for _ in range(3))
        for each in (first, second, third):
            stack.push_async_callback(each.stop)
        await record(store, 3)
        await first.start()
        await second.start()
        await signed(pool, signer, 3)
        await record(store, 300)
        await signed(pool, signer, 303)
        await first.stop()
        await record(store, 5)
        await signed(pool, signer, 308)
        # Nobody is at work for a while; whoever comes next goes on.
        await second.stop()
        await record(store, 7)
        await third.start()
        await signed(pool, signer, 315)
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM log_key") == 1
            entered = "SELECT sum(cardinality(positions)) FROM log_bundle"
            assert await connection.fetchval(entered) == 315


# A sealer that stops itself, once, when it enters the fourth entry, or has signed it.
_STOPS_ITSELF = """
import os, signal, sys
from nbledger_infrastructure.postgres import leading
leading.SILENT_SECONDS = 1
from nbledger_audit import logs
from nbledger.main import main

name, original, stopped = sys.argv.pop(1), None, []
original = getattr(logs, name)

async def stopping(connection, *given):
    if name == "add":
        await original(connection, *given)
    if (await logs.signed_size(connection, __import__("uuid").UUID(int=1))) == 3 and not stopped:
        stopped.append(1)
        os.kill(os.getpid(), signal.SIGSTOP)
    if name == "sign":
        await original(connection, *given)

setattr(logs, name, stopping)
main()
"""


@pytest.mark.guarantee("G40")
@pytest.mark.parametrize("stopped_in", ["add", "sign"])
async def test_a_sealer_that_is_stopped_is_replaced_and_does_no_harm_later(
    database_dsn: str, tmp_path: Path, stopped_in: str
) -> None:
    """It is stopped within its transaction, or when it has signed and has told nobody yet."""
    signer = Signer.generate(tmp_path / "key.pem")
    settings = Settings(
        postgres=Postgres(dsn=database_dsn),
        audit=Audit(
            origin=ORIGIN,
            key_file=str(tmp_path / "key.pem"),
            state_folder=str(tmp_path / "signed"),
            checkpoint_seconds=0.05,
        ),
    )
    environment = {
        **os.environ,
        "NBLEDGER_POSTGRES_DSN": database_dsn,
        "NBLEDGER_AUDIT_ORIGIN": ORIGIN,
        "NBLEDGER_AUDIT_KEY_FILE": settings.audit.key_file,
        "NBLEDGER_AUDIT_STATE_FOLDER": settings.audit.state_folder,
        "NBLEDGER_AUDIT_CHECKPOINT_SECONDS": "0.05",
        "NBLEDGER_HEALTH_PORT": "0",
        "NBLEDGER_LOG_FORMAT": "json",
    }
    second = Sealing(settings)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(database_dsn))
        store = await stack.enter_async_context(open_store(pool))
        await record(store, 3)
        first = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _STOPS_ITSELF, stopped_in, "sealer",
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        stack.push_async_callback(_end, first)
        await signed(pool, signer, 3)
        await record(store, 2)
        await until_stopped(first.pid)
        stack.push_async_callback(second.stop)
        await second.start()
        await record(store, 4)
        await signed(pool, signer, 9)
        first.send_signal(signal.SIGCONT)
        async with asyncio.timeout(SECONDS):
            assert first.stdout is not None
            while b'"interrupted"' not in await first.stdout.readline():
                assert first.returncode is None
        async with pool.acquire() as connection:
            sizes = await connection.fetch("SELECT size FROM log_checkpoint ORDER BY signed_at")
            assert [row["size"] for row in sizes] == [3, 9]
        # Whatever it had signed, what is remembered is what was signed last; and it goes on.
        await second.stop()
        await record(store, 1)
        await signed(pool, signer, 10)
        remembered = SignerMemory(tmp_path / "signed").last(TENANT)
        assert remembered is not None
        assert read_checkpoint(read_note(remembered)).size == 10


async def test_a_folder_that_hangs_holds_up_no_other_work(
    database_dsn: str, tmp_path: Path
) -> None:
    """What was signed last is a pipe: whoever reads it waits for what this test writes to it."""
    async with installation(database_dsn, tmp_path) as house:
        checkpoints = CheckpointSigner(house.signer, ORIGIN, tmp_path / "signed")
        await house.record(TENANT, 3)
        await Sealer(house.pool, checkpoints, 0.0).tick()
        path = tmp_path / "signed" / f"{TENANT}.signed" / "3"
        told = path.read_text()
        path.unlink()
        os.mkfifo(path)
        async with house.pool.acquire() as connection, asyncio.timeout(SECONDS):
            task = asyncio.create_task(checkpoints.checkpoint(connection, TENANT, 3))
            for _ in range(2):  # once to compare with it, and once since it is there already
                pipe = await opened(path)
                # What is written now is for this reader alone.
                os.mkfifo(tmp_path / "next")
                (tmp_path / "next").replace(path)
                os.write(pipe, told.encode())
                os.close(pipe)
            note = await task
            assert str(note) == told


async def test_a_folder_that_never_answers_is_told(
    database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "FOLDER_SECONDS", 0.05)
    async with installation(database_dsn, tmp_path) as house:
        path = tmp_path / "signed" / f"{TENANT}.signed" / "3"
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
        checkpoints = CheckpointSigner(house.signer, ORIGIN, tmp_path / "signed")
        await house.record(TENANT, 3)
        problems: list[str | None] = []

        def lacks(what: str, problem: str | None) -> None:
            if what == "key":
                problems.append(problem)

        sealing = Sealer(house.pool, checkpoints, 0.0, lacks=lacks)
        try:
            for _ in range(signing.SIGNED_AT_ONCE + 2):
                await sealing.tick()
        finally:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    # Threads that hang are no more than that.
    folder = tmp_path / "signed"
    assert problems[:-2] == [f"{folder}: no answer in 0.05 seconds"] * signing.SIGNED_AT_ONCE
    assert problems[-2:] == [f"{folder} does not answer"] * 2


async def opened(pipe: Path) -> int:
    """Wait until somebody reads a pipe, and open it for writing."""
    while True:
        with suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        await asyncio.sleep(0.01)


async def until_stopped(pid: int) -> None:
    """Wait until a process is stopped by a signal."""
    async with asyncio.timeout(SECONDS):
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@pytest.mark.guarantee("G40")
def test_a_larger_checkpoint_is_never_forgotten_for_a_smaller_one(tmp_path: Path) -> None:
    memory, other = SignerMemory(tmp_path / "signed"), SignerMemory(tmp_path / "signed")
    assert memory.last(TENANT) is None
    (tmp_path / "signed" / str(TENANT)).write_text("of an earlier version")
    assert memory.last(TENANT) == "of an earlier version"
    assert memory.keep(TENANT, 9, "nine") == "nine"
    assert other.keep(TENANT, 12, "twelve") == "twelve"
    assert memory.keep(TENANT, 10, "ten") == "ten"
    assert memory.keep(TENANT, 12, "another twelve") == "twelve"
    assert memory.last(TENANT) == other.last(TENANT) == "twelve"
    assert {path.name for path in (tmp_path / "signed").rglob("*") if path.is_file()} == {
        "12",
        str(TENANT),
    }


@pytest.mark.parametrize("fault", ["missing", "readable by others", "no folder"])
def test_a_sealer_that_cannot_sign_says_so_in_a_line_and_ends(tmp_path: Path, fault: str) -> None:
    key_file, folder = tmp_path / "key.pem", tmp_path / "signed"
    expected = f"audit.key_file: {key_file}: No such file or directory"
    if fault != "missing":
        Signer.generate(key_file)
        key_file.chmod(0o640)
        expected = f"audit.key_file: {key_file}: others than its owner can get at it: chmod 600"
    if fault == "no folder":
        key_file.chmod(0o600)
        folder.write_text("a file")
        expected = f"audit.state_folder: {folder}: File exists"
    ended = subprocess.run(
        [sys.executable, "-m", "nbledger", "sealer"],
        env={
            **os.environ,
            # Nothing is asked of the database before there is a key.
            "NBLEDGER_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none",
            "NBLEDGER_AUDIT_ORIGIN": ORIGIN,
            "NBLEDGER_AUDIT_KEY_FILE": str(key_file),
            "NBLEDGER_AUDIT_STATE_FOLDER": str(folder),
            "NBLEDGER_HEALTH_PORT": "0",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    told = ended.stdout + ended.stderr
    assert told.endswith(f"Error: The settings are not usable:\n  {expected}\n")
    assert "Traceback" not in told
