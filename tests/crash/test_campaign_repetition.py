"""Clients that repeat their requests with keys, against an API that is killed under them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.campaigns import Tally, conclude, times
from support.paths import ROOT

from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import Pool, connect_pool
from nbledger_infrastructure.postgres.tokens import Role

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.guarantee("G31"),
    pytest.mark.timeout(times(small=300, ci=500, full=1200)),
]

POSTS = times(small=100, ci=400, full=1000)
KEYS = times(small=10, ci=40, full=100)
KILLS = times(small=4, ci=10, full=20)
AT_ONCE = times(small=50, ci=200, full=1000)
PATIENCE = times(small=240, ci=400, full=900)


class KilledApi:
    """An API in a process of its own, started again at another port after each kill."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self._arguments = (dsn, str(folder))
        self._process: Process | None = None
        self._reading: asyncio.Task[None]
        self.url = ""
        self.up = asyncio.Event()

    async def start(self) -> None:
        """Start it and wait for its address, the last line that it prints before it serves."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "support.api_process",
            *self._arguments,
            cwd=ROOT / "tests",
            stdin=PIPE,
            stdout=PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(_read(self._process, url))
        self.url = await url
        self.up.set()

    async def kill(self) -> None:
        """SIGKILL: nothing of it is orderly."""
        assert self._process is not None
        self.up.clear()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._reading


async def _read(process: Process, url: asyncio.Future[str]) -> None:
    """Tell of the address, and read on: a full pipe would hold the API up."""
    assert process.stdout is not None
    async for line in process.stdout:
        text = line.decode().strip()
        if text.startswith("http://") and not url.done():
            url.set_result(text)
    if not url.done():
        url.set_exception(AssertionError("the API has not come up"))


async def _token(pool: Pool) -> tuple[str, str]:
    tenant, project = uuid4(), uuid4()
    secret, _ = await tokens.create(
        pool, name="client", tenant_id=tenant, project_ids=None, roles=[Role.EDITOR]
    )
    return f"/api/{tenant}/{project}", secret


async def test_repeated_requests_make_one_run_each_though_the_api_is_killed(
    database_dsn: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("kill -9 of the API under repeated requests", PATIENCE, record_property)
    pool = await connect_pool(database_dsn, max_size=2, application_name="test")
    base, secret = await _token(pool)
    api = KilledApi(database_dsn, tmp_path)
    await api.start()
    # A connection for each request: nothing waits for a pool whose server has gone.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    client = httpx.AsyncClient(
        headers={"Authorization": f"Bearer {secret}"}, timeout=30.0, limits=limits
    )
    try:
        made = await client.post(
            f"{api.url}{base}/notebook",
            json={"notebookName": "N", "initialCells": [{"cellType": "code", "content": "x"}]},
        )
        path = f"{base}/notebook/{made.json()['notebookId']}/execute"
        answered: asyncio.Queue[None] = asyncio.Queue()
        runs: dict[int, set[str]] = collections.defaultdict(set)
        counted: collections.Counter[str] = collections.Counter()

        async def post(number: int) -> None:
            """Send it until it is answered."""
            key, began = number % KEYS, time.monotonic()
            while True:
                await api.up.wait()
                try:
                    answer = await client.post(
                        api.url + path,
                        json={"parameters": {"key": key}},
                        headers={"Idempotency-Key": f'"key-{key}"'},
                    )
                except httpx.TransportError:
                    counted["cut off"] += 1
                    await asyncio.sleep(0.01)
                    continue
                if answer.status_code == 202:
                    break
                # The database has not noticed yet that the killed one is gone, say.
                assert answer.status_code in {409, 503}, answer.text
                counted["told to repeat"] += 1
                await asyncio.sleep(0.05)
            assert answer.json()["parameters"] == {"key": key}
            runs[key].add(answer.json()["executionId"])
            replayed = "idempotency-replayed" in answer.headers
            tally.took(time.monotonic() - began, "repetition" if replayed else "first")
            answered.put_nowait(None)

        async def killer() -> None:
            """Kill it so often, each time after some more answers, in the middle of others."""
            for _ in range(KILLS):
                for _ in range(tally.random.randint(1, POSTS // KILLS)):
                    await answered.get()
                await api.kill()
                await api.start()

        killing = asyncio.create_task(killer())
        await tally.repeat(POSTS, post, at_once=AT_ONCE)
        await asyncio.wait_for(killing, PATIENCE)
        recorded = await pool.fetch(
            "SELECT stream_id FROM event WHERE type = 'execution.requested.v1'"
        )
        tally.expect(len(recorded) == KEYS, f"{len(recorded)} runs for {KEYS} keys")
        tally.expect(
            all(len(found) == 1 for found in runs.values()) and len(runs) == KEYS,
            "repetitions of one request were told of different runs",
        )
        told = {each for found in runs.values() for each in found}
        tally.expect(told == {str(row[0]) for row in recorded}, "a run that nobody was told of")
        tally.ends.update(counted)
    finally:
        await client.aclose()
        await api.kill()
        await pool.close()
    conclude(POSTS, tally)
