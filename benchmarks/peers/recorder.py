"""The eventsourcing library's PostgreSQL application recorder under concurrent callers.

Choices in the peer's favour:
- the recorder is called directly (`insert_events`), without aggregates, mapper or snapshots;
- callers are threads, as the library is synchronous, and share a pool of 8 connections: with 3,
  8 and 32 it did 2,800, 2,900 and 2,300 appends/s on the machine this was written on;
- both documented ways of inserting are measured: the default, which locks the table so that
  positions are committed in order, and `POSTGRES_ENABLE_DB_FUNCTIONS`, one round trip without
  that lock (a reader that follows positions can then pass over an event committed late).
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresFactory
from eventsourcing.utils import Environment

from benchmarks.peers.protocol import serve

_recorders: dict[str, Any] = {}


def start(env: dict[str, str]) -> None:
    for variant, functions in (("default", "no"), ("function", "yes")):
        factory = PostgresFactory(
            Environment(
                f"bench_{variant}",
                env
                | {
                    "POSTGRES_POOL_SIZE": "8",
                    "POSTGRES_MAX_OVERFLOW": "0",
                    "POSTGRES_ENABLE_DB_FUNCTIONS": functions,
                },
            )
        )
        recorder = factory.application_recorder()
        factory.datastore.pool.wait(timeout=60)
        _recorders[variant] = recorder


def measure(
    variant: str, callers: int, seconds: float, type_name: str, data: str
) -> dict[str, float]:
    """Appends per second, each an own transaction of one event to its caller's stream."""
    recorder = _recorders[variant]
    state = data.encode()
    counts = [0] * callers
    barrier = threading.Barrier(callers + 1)
    stop = threading.Event()

    def caller(number: int) -> None:
        stream = uuid.uuid4()
        version = 0
        barrier.wait()
        while not stop.is_set():
            version += 1
            event = StoredEvent(
                originator_id=stream,
                originator_version=version,
                topic=type_name,
                state=state,
            )
            recorder.insert_events([event])
        counts[number] = version

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(callers)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    return {"perSecond": sum(counts) / elapsed, "count": sum(counts)}


if __name__ == "__main__":
    serve({"start": start, "measure": measure})
