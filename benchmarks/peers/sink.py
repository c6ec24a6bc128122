"""A bare polars script that turns a CSV file into Parquet.

Choices in the peer's favour: it reads the file where it lies instead of having it sent; all cores;
polars has been imported before the clock starts; its own defaults otherwise, but for the times in
the file, which it has to recognise like the other side.
"""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl

from benchmarks.peers.protocol import serve


def sink(source: str, target: str) -> float:
    """Seconds from the call until the Parquet file is there."""
    begin = time.perf_counter()
    pl.scan_csv(source, try_parse_dates=True).sink_parquet(target)
    elapsed = time.perf_counter() - begin
    Path(target).unlink()
    return elapsed


if __name__ == "__main__":
    serve({"sink": sink})
