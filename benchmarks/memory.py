"""Whether a worker keeps what it should let go."""

from __future__ import annotations

import psutil

from benchmarks.bench import Bench
from benchmarks.engine import Client
from benchmarks.figures import Figure, compare
from benchmarks.server import nbledger_up, role

MEGABYTES = 10
_LINE = 1000


def memory(bench: Bench) -> list[Figure]:
    """Memory of the worker, its fork servers included, after many runs that each print 10 MB.

    The kernels and supervisors that wait are not counted, since their number changes.
    """
    few, many = (1, 2) if bench.quick else (10, 200)
    with nbledger_up(bench.scratch / "memory-up" / "home") as up, Client(up) as client:
        worker = role(up, "worker")
        lines = MEGABYTES * 1_000_000 // _LINE
        # Other bytes in every run, or they would be stored once.
        notebook = client.notebook(
            "import os",
            "word = os.urandom(8).hex()",
            f"for n in range({lines}): print(word, str(n).rjust({_LINE - 18}, '.'))",
        )
        sizes: list[int] = []
        for _ in range(many):
            client.wait(client.begin(notebook), pause=0.02)
            sizes.append(_resident(worker))
            if len(sizes) in {few, many}:
                client.settle()
                sizes[-1] = _resident(worker)
    bench.say(f"  memory of the worker, most of all: {max(sizes) / 1e6:.0f} MB")
    return [
        compare(
            figure=f"memory of the worker after {many} runs of {MEGABYTES} MB output",
            unit="MB",
            against=f"itself after {few}",
            pairs=[(sizes[-1] / 1e6, sizes[few - 1] / 1e6)],
            bound=1.1,
            better="lower",
        )
    ]


def _resident(worker: psutil.Process) -> int:
    """Resident bytes of the worker and of what it started itself."""
    total: int = worker.memory_info().rss
    for child in worker.children():
        total += child.memory_info().rss
    return total
