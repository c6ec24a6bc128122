"""Kernels that die, hang or are told to stop, through the API of a whole running server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from support.campaigns import Tally, code, conclude, gone, marked, marking, new_mark, times
from support.local_server import LocalServer, local_server

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=120, ci=400, full=1800)),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes as Linux names them"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

AT_ONCE = 4
FOUND_SECONDS = times(small=15, ci=2, full=2)
"""At the smallest size all kinds of tests run beside these, on any machine."""
TIMEOUT = 10.0
"""Of a run, which must come to its third cell within it on a busy machine, too."""
OVERTIME = 10.0
CANCEL_SECONDS = times(small=20, ci=5, full=5)
_PATIENCE = 90.0
_TERMINAL = {f"execution.{end}.v1" for end in ("completed", "failed", "timed-out", "cancelled")} | {
    "execution.kernel-died.v1"
}

Reports = Callable[[str, object], None]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server({"NBLEDGER_WORKER_CONCURRENCY": str(AT_ONCE)}) as running:
        yield running
        members = running.members()
        assert running.process.poll() is None
    # Nobody of the whole instance is left, whatever was done to its kernels.
    assert not [process for process in members if process.is_running()]


class Runs:
    """Notebooks and runs of them, as a client sees them."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str) -> Any:
        answer = await self._client.get(path)
        assert answer.is_success, answer.text
        return answer.json()

    async def begin(self, *cells: str, **options: Any) -> str:
        """Make a notebook and run it; the path of the run."""
        made = await self._client.post("/notebook", json=code(*cells))
        assert made.is_success, made.text
        path = f"/notebook/{made.json()['notebookId']}"
        begun = await self._client.post(f"{path}/execute", json=options)
        assert begun.is_success, begun.text
        return f"{path}/execution/{begun.json()['executionId']}"

    async def cancel(self, path: str) -> bool:
        """Ask for the end; False when the run had ended before."""
        answer = await self._client.post(f"{path}/cancel")
        assert answer.status_code in {202, 409}, answer.text
        return answer.status_code == 202

    async def until(self, path: str, done: Callable[[Any], bool]) -> Any:
        """The first status that is so."""
        async with asyncio.timeout(_PATIENCE):
            while not done(found := await self.get(path)):  # noqa: ASYNC110 - polls as clients do
                await asyncio.sleep(0.02)
        return found

    async def in_cell(self, path: str, number: int) -> None:
        """Wait until this cell, counted from 1, is running."""
        cell = f"cell-{number:03d}"
        found = await self.until(
            path, lambda seen: seen.get("currentCell") == cell or seen["status"] != "Running"
        )
        assert found["status"] == "Running", found

    async def end(self, path: str) -> Any:
        """The status with which it ended, of which there may be only one."""
        ended = await self.until(path, lambda seen: seen["status"] != "Running")
        events = (await self.get(f"{path}/history?limit=1000"))["events"]
        types = [event["type"] for event in events]
        ends = [kind for kind in types if kind in _TERMINAL]
        assert len(ends) == 1, types
        assert types[-1] == ends[0], types
        return ended


@asynccontextmanager
async def runs_of(server: LocalServer) -> AsyncIterator[Runs]:
    async with httpx.AsyncClient(
        base_url=server.base, headers=server.headers, timeout=30.0
    ) as client:
        yield Runs(client)


BUSY = {
    "sleeping": "import time; time.sleep(600)",
    "computing": "while True: pass",
    "holding the GIL": "import re; re.match('(a?){40}a{40}', 'a' * 40)",
}


@pytest.mark.guarantee("G8")
async def test_killed_kernels_are_found(server: LocalServer, record_property: Reports) -> None:
    count = times(small=4, ci=12, full=50)
    tally = Tally("kill -9 of the kernel", FOUND_SECONDS, record_property)
    async with runs_of(server) as runs:

        async def trial(number: int) -> None:
            mark = new_mark()
            busy = list(BUSY.values())[number % len(BUSY)]
            path = await runs.begin("print('kept')", marking(mark), busy, "print('never')")
            await runs.in_cell(path, 3)
            await asyncio.sleep(tally.random.uniform(0, 0.5))
            (kernel,) = marked(mark, children=False)
            os.kill(kernel, signal.SIGKILL)
            began = time.monotonic()
            ended = await runs.end(path)
            tally.took(time.monotonic() - began, ended["terminationCode"])
            assert (ended["status"], ended["terminationCode"]) == ("Error", "kernel_died"), ended
            notebook = await runs.get(path.rpartition("/execution/")[0])
            assert notebook["status"] == "Kernel_Dead", notebook["status"]
            results = await runs.get(f"{path}/results?format=detailed")
            assert results["outputs"][0]["content"] == "kept\n", results
            await gone(mark)

        await tally.repeat(count, trial, at_once=AT_ONCE)
    conclude(count, tally)


STUCK = {
    "SIGSTOP of the kernel": "import time; time.sleep(600)",
    "hung cell": "import threading; threading.Event().wait()",
    "cell that ignores SIGINT": (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(600)\n"
        "    except BaseException:\n"
        "        pass"
    ),
    "cell that holds the GIL": BUSY["holding the GIL"],
}


async def test_what_is_stuck_ends_in_time(server: LocalServer, record_property: Reports) -> None:
    count = times(small=1, ci=4, full=20)
    tallies = {kind: Tally(kind, TIMEOUT + OVERTIME, record_property) for kind in STUCK}
    async with runs_of(server) as runs:

        async def stick(kind: str, number: int) -> None:
            mark = new_mark()
            began = time.monotonic()
            path = await runs.begin(
                "print('kept')", marking(mark), STUCK[kind], "print('never')", timeout=TIMEOUT
            )
            await runs.in_cell(path, 3)
            if kind.startswith("SIGSTOP"):
                (kernel,) = marked(mark, children=False)
                os.kill(kernel, signal.SIGSTOP)
            ended = await runs.end(path)
            tallies[kind].took(time.monotonic() - began, ended["terminationCode"])
            assert (ended["status"], ended["terminationCode"]) == ("Error", "run_timeout"), ended
            results = await runs.get(f"{path}/results?format=detailed")
            assert results["outputs"][0]["content"] == "kept\n", results
            await gone(mark)

        await asyncio.gather(
            *(
                tally.repeat(count, partial(stick, kind), at_once=1)
                for kind, tally in tallies.items()
            )
        )
    conclude(count, *tallies.values())


async def test_cancelled_runs_end_soon(server: LocalServer, record_property: Reports) -> None:
    count = times(small=4, ci=12, full=50)
    tally = Tally("cancel at a random moment", CANCEL_SECONDS, record_property)
    cells = [
        "import time; time.sleep(0.2)",
        "import time\nuntil = time.monotonic() + 0.2\nwhile time.monotonic() < until: pass",
    ] * 4
    async with runs_of(server) as runs:

        async def trial(number: int) -> None:
            mark = new_mark()
            path = await runs.begin(marking(mark), *cells)
            # At random, and spread evenly over what a run takes.
            await asyncio.sleep(2.5 * (number + tally.random.random()) / count)
            began = time.monotonic()
            asked = await runs.cancel(path)
            ended = await runs.end(path)
            took = time.monotonic() - began
            tally.took(took, ended["status"] if asked else "ended before")
            # A run whose last cell ends just then may have been completed first.
            expected = {"Cancelled", "Completed"} if asked else {"Completed"}
            assert ended["status"] in expected, ended
            await gone(mark)

        await tally.repeat(count, trial, at_once=AT_ONCE)
    conclude(count, tally)
    assert tally.ends.get("Cancelled", 0) >= count / 2
