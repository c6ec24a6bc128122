"""POST execute with an idempotency key: what recording the key costs."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare
from benchmarks.http_client import Connection
from benchmarks.server import nbledger_up

_WAITS = {"kernelType": "r", "notebookName": "Waits"}
"""Of a kernel type that the machine may not have: then no run takes the processor."""


def repetition(bench: Bench) -> list[Figure]:
    """With a new key each time against without, in turn on one connection."""
    posts = 5 if bench.quick else 200
    with (
        nbledger_up(
            bench.scratch / "repetition" / "home",
            {"NBLEDGER_EXECUTION_QUEUE_WITHOUT_WORKER": "true"},
        ) as up,
        Connection(up.url, up.headers) as connection,
    ):
        cells = [{"cellType": "code", "content": "x = 1"}]
        made = connection.post(f"{up.project}/notebook", {**_WAITS, "initialCells": cells})
        path = f"{up.project}/notebook/{made['notebookId']}/execute"

        def milliseconds(headers: Callable[[], str]) -> float:
            times = []
            for _ in range(posts):
                more, began = headers(), time.perf_counter()
                connection.post(path, {"parameters": {"x": 2}}, more)
                times.append(time.perf_counter() - began)
            return 1000 * statistics.median(times)

        rounds = bench.alternate(
            [
                lambda: milliseconds(lambda: f'Idempotency-Key: "{uuid.uuid4()}"\r\n'),
                lambda: milliseconds(lambda: ""),
            ]
        )
    return [
        compare(
            figure="POST execute with an Idempotency-Key",
            unit="ms",
            against="without one",
            pairs=[(keyed, plain) for keyed, plain in rounds],
            bound=1.15,
            better="lower",
        )
    ]
