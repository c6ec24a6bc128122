"""GET status and GET list, requests per second over one connection."""

from __future__ import annotations

import json

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare
from benchmarks.http_client import Connection
from benchmarks.scheduler_server import scheduler_server
from benchmarks.server import nbledger_server

PAGE_SIZE = 20


def reads(bench: Bench) -> list[Figure]:
    """Ours against jupyter-scheduler: as many notebooks there as jobs here, one of them run."""
    entries = 25 if bench.quick else 100
    seconds = 0.2 if bench.quick else 1.5
    with (
        nbledger_server(bench.scratch / "up" / "home", entries) as ours,
        scheduler_server(bench.scratch / "scheduler", entries) as theirs,
        Connection(ours.url, ours.headers) as our_connection,
        Connection(theirs.url, theirs.headers) as their_connection,
    ):
        job = f"/scheduler/jobs/{theirs.job_id}"
        jobs = f"/scheduler/jobs?max_items={PAGE_SIZE}"
        assert json.loads(our_connection.get(ours.status_path))["status"] == "Completed"
        assert len(json.loads(our_connection.get(ours.list_path))["notebooks"]) == PAGE_SIZE
        assert json.loads(their_connection.get(job))["status"] == "COMPLETED"
        assert len(json.loads(their_connection.get(jobs))["jobs"]) == PAGE_SIZE
        rounds = bench.alternate(
            [
                lambda: our_connection.requests_per_second([ours.status_path], seconds),
                lambda: their_connection.requests_per_second([job], seconds),
                lambda: our_connection.requests_per_second([ours.list_path], seconds),
                lambda: their_connection.requests_per_second([jobs], seconds),
            ]
        )
    return [
        compare(
            figure="GET status, one connection",
            unit="requests/s",
            against="jupyter-scheduler GET job",
            pairs=[(ours, theirs) for ours, theirs, _, _ in rounds],
            bound=2,
        ),
        compare(
            figure=f"GET list of {PAGE_SIZE}, one connection",
            unit="requests/s",
            against="jupyter-scheduler GET jobs",
            pairs=[(ours, theirs) for _, _, ours, theirs in rounds],
            bound=2,
        ),
    ]
