"""Measure nbledger side by side with its peers: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.appends import appends
from benchmarks.as_of import as_of
from benchmarks.bench import Bench, bench
from benchmarks.bulk_actions import bulk_actions
from benchmarks.bundles import bundles
from benchmarks.client_calls import client_calls
from benchmarks.datasets import datasets
from benchmarks.engine import latency, throughput
from benchmarks.execution_list import execution_list
from benchmarks.figures import Figure, print_table, write_json
from benchmarks.histories import histories
from benchmarks.kernels import kernels
from benchmarks.list_scale import list_scale
from benchmarks.memory import memory
from benchmarks.peer import CHECKOUT, require_environment
from benchmarks.proofs import proofs
from benchmarks.reads import reads
from benchmarks.rebuild import rebuilds
from benchmarks.relaying import relaying
from benchmarks.repetition import repetition
from benchmarks.replaying import replaying
from benchmarks.results import results
from benchmarks.sealing import sealing
from benchmarks.webhooks import webhooks

SECTIONS: dict[str, Callable[[Bench], list[Figure]]] = {
    "appends": appends,
    "relay": relaying,
    "replay": replaying,
    "sealing": sealing,
    "proofs": proofs,
    "bundle": bundles,
    "histories": histories,
    "webhooks": webhooks,
    "rebuild": rebuilds,
    "reads": reads,
    "client": client_calls,
    "as_of": as_of,
    "list": list_scale,
    "executions": execution_list,
    "bulk": bulk_actions,
    "repetition": repetition,
    "latency": latency,
    "throughput": throughput,
    "kernels": kernels,
    "memory": memory,
    "results": results,
    "datasets": datasets,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure nbledger against its peers, side by side in alternating rounds. "
        "Prints a table and writes it as JSON.",
    )
    parser.add_argument(
        "--only", choices=SECTIONS, action="append", help="only this part (may be repeated)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short round each: shows that the benchmark works; its figures mean nothing",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="bundles and replays of 1,000,000 events rather than 200,000 and 60,000, and proofs "
        "out of a log of 10,000,000 entries rather than 1,000,000",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=CHECKOUT / "bench.json",
        metavar="FILE",
        help="where to write the figures (default: bench.json in the checkout)",
    )
    arguments = parser.parse_args()
    require_environment()
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="nbledger-bench-") as scratch,
        bench(Path(scratch), quick=arguments.quick, full=arguments.full) as run,
    ):
        for name in arguments.only or SECTIONS:
            begin = time.monotonic()
            run.say(f"measuring {name} …")
            figures += SECTIONS[name](run)
            run.say(f"measured {name} in {time.monotonic() - begin:.0f} s")
    print_table(figures)
    write_json(figures, arguments.json)


if __name__ == "__main__":
    main()
