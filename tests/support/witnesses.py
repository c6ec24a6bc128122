"""Witnesses that run, in this process or in one of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
from support.tlog import SmallLog, new_signer

from nbledger_audit.witness.cosigner import Cosigner, KnownLogs
from nbledger_audit.witness.memory import Memory
from nbledger_audit.witness.server import serve
from nbledger_domain.transparency.notes import Key

SECONDS = 60


class Served(msgspec.Struct):
    """A witness that serves, and a log that it knows."""

    port: int
    key: Key
    log: SmallLog

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(
    folder: Path, *vkeys: str, name: str = "witness.example/w"
) -> AsyncIterator[Served]:
    """A witness in this process, which knows the logs of these keys and one of its own."""
    log = SmallLog(new_signer(folder, "log"), "ledger.example.com/log")
    lines = (f"vkey {each}\n" for each in (log.vkey, *vkeys))
    (folder / "logs").write_text(f"logs/v0\n{''.join(lines)}")
    (folder / "state").mkdir()
    memory = Memory(folder / "state")
    cosigner = Cosigner(name, new_signer(folder, "witness"), KnownLogs(folder / "logs"), memory)
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(cosigner, "127.0.0.1", 0, stop, ready.set_result))
    try:
        async with asyncio.timeout(SECONDS):
            yield Served(await ready, cosigner.key, log)
    finally:
        stop.set()
        await task
        memory.close()


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The witness of a folder in a process of its own, and its address. It is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nbledger", "witness", "run", folder, "--port", "0"],
        env={**os.environ, "NBLEDGER_LOG_FORMAT": "json", "NBLEDGER_HEALTH_PORT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        with process.stdout as lines:
            told = [b""]
            for line in lines:
                told.append(line)
                if b'"ready"' in line:
                    break
            else:
                raise AssertionError(b"".join(told).decode())
            yield process, json.loads(told[-1])["url"]
            process.kill()
            lines.read()
    finally:
        process.kill()
        process.wait(SECONDS)
