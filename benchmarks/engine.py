"""Execution: how soon a notebook has run, how many a second, what a cell costs."""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Self

import psutil

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare, within
from benchmarks.http_client import Connection
from benchmarks.peer import Peer
from benchmarks.scheduler_server import (
    SchedulerServer,
    notebook_of,
    scheduler_server,
    start_job,
    wait_for_job,
)
from benchmarks.server import Up, nbledger_up

CELL = "1 + 1"
CELLS = 50
POOL_MAX = 4
"""Kernels that may wait at the most, by default; many more runs, and the pool decides nothing."""
_PAUSE_SECONDS = 0.02
_POLL_SECONDS = 0.01
"""Between questions to who is to get on with its work, ours and theirs."""
_QUIET_SECONDS = 0.2
_KEPT_SECONDS = 5.0
"""The server closes connections on which nothing is asked."""


class Client:
    """One client of nbledger on one connection; a context manager that closes it."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self._connection = Connection(up.url, up.headers)
        self._used = time.monotonic()
        self._members = psutil.Process(up.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def notebook(self, *cells: str) -> str:
        """A new notebook; its path."""
        made = self._connection.post(
            f"{self.up.project}/notebook",
            {
                "notebookName": "Analysis",
                "kernelType": "python3",
                "initialCells": [{"cellType": "code", "content": cell} for cell in cells],
            },
        )
        return f"{self.up.project}/notebook/{made['notebookId']}"

    def begin(self, notebook: str) -> str:
        """Ask for a run; its path."""
        begun = self._connection.post(f"{notebook}/execute", {})
        return f"{notebook}/execution/{begun['executionId']}"

    def wait(self, execution: str, *, pause: float | None = None) -> None:
        """GET the status until the run has completed: every `pause` seconds, or waiting for it."""
        request = self._connection.prepare(
            execution, "Prefer: wait=30\r\n" if pause is None else ""
        )
        deadline = time.monotonic() + 120
        while (status := json.loads(self._connection.send(request)))["status"] != "Completed":
            if status["status"] != "Running" or time.monotonic() > deadline:
                raise RuntimeError(f"the execution ended as {status}")
            if pause is not None:
                time.sleep(pause)

    def follow(self, execution: str) -> None:
        """Read the stream of events to its end, which is the run's."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.up.url.rstrip("/") + f"{execution}/events", headers=self.up.headers
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - loopback
            if b"execution.completed.v1" not in response.read():
                raise RuntimeError("the execution did not complete")

    def cells_seconds(self, execution: str) -> float:
        """From the start of the run's first cell to the end of its last, as it is recorded."""
        events = json.loads(self._connection.get(f"{execution}/history?limit=1000"))["events"]
        started = [e["time"] for e in events if e["type"] == "execution.cell-started.v1"]
        ended = [e["time"] for e in events if e["type"] == "execution.cell-executed.v1"]
        span = datetime.fromisoformat(ended[-1]) - datetime.fromisoformat(started[0])
        return span.total_seconds()

    def settle(self) -> None:
        """Wait until the whole system is idle, its kernels waiting for work; stay connected."""
        deadline = time.monotonic() + 20
        quiet = 0
        before = self._processor_seconds()
        while quiet < 2 and time.monotonic() < deadline:
            time.sleep(_QUIET_SECONDS)
            after = self._processor_seconds()
            # Some ticks of the clock that counts them: the broker is asked all the time.
            quiet = quiet + 1 if after - before < 0.05 else 0
            before = after
        if time.monotonic() - self._used > _KEPT_SECONDS:
            self._connection.close()
            self._connection = Connection(self.up.url, self.up.headers)
        self._connection.get(f"{self.up.project}/notebooks?pageSize=1")
        self._used = time.monotonic()

    def _processor_seconds(self) -> float:
        total = 0.0
        for process in self._members.children(recursive=True):
            try:
                used = process.cpu_times()
            except psutil.Error:
                continue
            total += used.user + used.system + used.children_user + used.children_system
        return total


def latency(bench: Bench) -> list[Figure]:
    """One cell, from the request to its end seen by the client; and many cells."""
    runs, their_runs = (2, 1) if bench.quick else (15, 4)
    folder = bench.scratch / "latency"
    file = _notebook_file(folder, CELL)
    with (
        nbledger_up(bench.scratch / "latency-up" / "home") as up,
        scheduler_server(bench.scratch / "latency-scheduler", 1, [CELL]) as scheduler,
        Peer("notebooks") as peer,
        Client(up) as client,
    ):
        one, many = client.notebook(CELL), client.notebook(*[CELL] * CELLS)

        def milliseconds(pause: float | None = None) -> float:
            taken = []
            for _ in range(runs):
                client.settle()
                begin = time.perf_counter()
                client.wait(client.begin(one), pause=pause)
                taken.append((time.perf_counter() - begin) * 1000)
            return statistics.median(taken)

        def followed() -> float:
            taken = []
            for _ in range(runs):
                client.settle()
                begin = time.perf_counter()
                client.follow(client.begin(one))
                taken.append((time.perf_counter() - begin) * 1000)
            return statistics.median(taken)

        recorded: list[float] = []

        def cells() -> float:
            client.settle()
            begin = time.perf_counter()
            execution = client.begin(many)
            client.wait(execution)
            seconds = time.perf_counter() - begin
            recorded.append(client.cells_seconds(execution) * 1000)
            return seconds * 1000

        rounds = bench.alternate(
            [
                milliseconds,
                lambda: milliseconds(_POLL_SECONDS),
                lambda: float(peer.ask("papermill", file=str(file), runs=their_runs)),
                lambda: _job_milliseconds(scheduler, max(1, their_runs // 2)),
                cells,
                lambda: float(peer.ask("cells", source=CELL, count=CELLS)),
            ]
        )
        streamed = followed()
    bench.say(
        f"  one-cell notebook: {statistics.median(r[0] for r in rounds):.1f} ms by `Prefer: wait`, "
        f"{statistics.median(r[1] for r in rounds):.1f} ms by polling GET every 10 ms, "
        f"{streamed:.1f} ms by the stream of events"
    )
    recorded = recorded[-len(rounds) :]
    name = "one-cell notebook, POST to Completed, p50"
    return [
        within(
            figure=f"{name}, `Prefer: wait`", unit="ms", values=[r[0] for r in rounds], bound=60
        ),
        within(
            figure=f"{name}, asked every 10 ms", unit="ms", values=[r[1] for r in rounds], bound=60
        ),
        compare(
            figure=name,
            unit="ms",
            against="papermill in process",
            pairs=[(r[0], r[2]) for r in rounds],
            bound=10,
            better="faster",
        ),
        compare(
            figure=name,
            unit="ms",
            against="jupyter-scheduler, POST to COMPLETED",
            pairs=[(r[0], r[3]) for r in rounds],
            bound=40,
            better="faster",
        ),
        compare(
            figure=f"{CELLS} trivial cells, POST to Completed",
            unit="ms",
            against="nbclient, the cells alone, on a warm kernel",
            pairs=[(r[4], r[5]) for r in rounds],
            bound=1.5,
            better="lower",
        ),
        compare(
            figure=f"{CELLS} trivial cells, first started to last ended",
            unit="ms",
            against="nbclient, the cells alone, on a warm kernel",
            pairs=list(zip(recorded, (r[5] for r in rounds), strict=True)),
            bound=1.5,
            better="lower",
        ),
    ]


def throughput(bench: Bench) -> list[Figure]:
    """One-cell notebooks a second, all asked for at once, each on a kernel that nobody used."""
    ours, papermill, jobs = (4, 2, 1) if bench.quick else (10 * POOL_MAX, 16, 8)
    processes = os.cpu_count() or 1
    file = _notebook_file(bench.scratch / "throughput", CELL)
    with (
        nbledger_up(bench.scratch / "throughput-up" / "home") as up,
        scheduler_server(bench.scratch / "throughput-scheduler", 1, [CELL]) as scheduler,
        Peer("notebooks") as peer,
        Client(up) as client,
    ):
        notebooks = [client.notebook(CELL) for _ in range(10)]

        def run_all() -> float:
            client.settle()
            begin = time.perf_counter()
            begun = [client.begin(notebooks[number % len(notebooks)]) for number in range(ours)]
            for execution in begun:
                client.wait(execution, pause=_PAUSE_SECONDS)
            return ours / (time.perf_counter() - begin)

        def run_jobs() -> float:
            place = (scheduler.url, scheduler.headers)
            begin = time.perf_counter()
            begun = [start_job(*place) for _ in range(jobs)]
            for job in begun:
                wait_for_job(*place, job, pause=_PAUSE_SECONDS)
            return jobs / (time.perf_counter() - begin)

        rounds = bench.alternate(
            [
                run_all,
                lambda: float(
                    peer.ask("papermill_rate", file=str(file), count=papermill, processes=processes)
                ),
                run_jobs,
            ],
            rounds=min(bench.rounds, 3),
        )
    name = "one-cell notebooks, a fresh kernel each"
    return [
        compare(
            figure=name,
            unit="notebooks/s",
            against=f"papermill in {processes} processes",
            pairs=[(r[0], r[1]) for r in rounds],
            bound=3,
        ),
        compare(
            figure=name,
            unit="notebooks/s",
            against="jupyter-scheduler",
            pairs=[(r[0], r[2]) for r in rounds],
            bound=10,
        ),
    ]


def _job_milliseconds(server: SchedulerServer, runs: int) -> float:
    taken = []
    for _ in range(runs):
        begin = time.perf_counter()
        job = start_job(server.url, server.headers)
        wait_for_job(server.url, server.headers, job, pause=_PAUSE_SECONDS)
        taken.append((time.perf_counter() - begin) * 1000)
    return statistics.median(taken)


def _notebook_file(folder: Path, *cells: str) -> Path:
    folder.mkdir(parents=True)
    file = folder / "analysis.ipynb"
    file.write_text(json.dumps(notebook_of(*cells)))
    return file
