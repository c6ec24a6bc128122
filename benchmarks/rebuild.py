"""Rebuild of all projections, events per second."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from benchmarks.appends import eventsourcing_env
from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare
from benchmarks.filling import append_all
from benchmarks.history import histories
from benchmarks.peer import Peer
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.settings import Postgres, Settings
from nbledger_projections.rebuild import ALL, rebuild
from nbledger_projections.rebuilding.beside import BATCH_EVENTS
from nbledger_projections.registry import READ_MODELS

NOTEBOOKS = 1_000
PEER_NOTEBOOKS = 50
"""Fewer for the peer, which handles every event alike, so that a round takes as long as ours."""


def rebuilds(bench: Bench) -> list[Figure]:
    """Ours against the eventsourcing library's ProjectionRunner writing the same rows.

    And against the store's bare read of the same events, which is how fast it could be at best.
    """
    dsn = bench.new_database("rebuild_ours")
    peer_dsn = bench.new_database("rebuild_peer")
    pool = bench.connect(dsn)

    async def fill() -> list[RecordedEvent]:
        store = EventStore(pool)
        await store.start()
        notebooks = 20 if bench.quick else NOTEBOOKS
        await append_all(store, histories(notebooks), new_id(), new_id())
        await store.close()
        return await store.read_all(after_position=0, limit=PEER_NOTEBOOKS * 15)

    first_events = bench.run(fill())
    count = bench.run(EventStore(pool).head_position())
    events = bench.scratch / "events.jsonl"
    bench.run(_write_events(first_events, events))

    async def rebuild_all() -> float:
        begin = time.perf_counter()
        await rebuild(Settings(postgres=Postgres(dsn=dsn)), [ALL])
        return count / (time.perf_counter() - begin)

    async def read_all() -> float:
        store, position = EventStore(pool), 0
        begin = time.perf_counter()
        while events := await store.read_all(after_position=position, limit=BATCH_EVENTS):
            position = events[-1].position
        return count / (time.perf_counter() - begin)

    with Peer("projection") as peer:
        peer.ask(
            "start",
            env=eventsourcing_env(peer_dsn),
            events=str(events),
            tables=[table for model in READ_MODELS.values() for table in model.tables],
        )
        rounds = bench.alternate(
            [
                lambda: bench.run(rebuild_all()),
                lambda: float(peer.ask("measure")["perSecond"]),
                lambda: bench.run(read_all()),
            ]
        )
    bench.run(pool.close())
    bench.drop_database("rebuild_ours")
    bench.drop_database("rebuild_peer")
    return [
        compare(
            figure="rebuild of all projections",
            unit="events/s",
            against="eventsourcing ProjectionRunner, the same rows",
            pairs=[(ours, theirs) for ours, theirs, _ in rounds],
            bound=5,
        ),
        compare(
            figure="rebuild of all projections",
            unit="events/s",
            against="bare read of the same events",
            pairs=[(ours, read) for ours, _, read in rounds],
            bound=0.05,
        ),
    ]


class _Statements:
    """Stands for a connection and keeps what a projection would write through it.

    Reads find nothing, which is so: the events begin with the streams, and the projections keep
    in memory what they have just written.
    """

    def __init__(self) -> None:
        self.kept: list[tuple[str, Sequence[Any]]] = []

    async def fetch(self, _: str, *__: object) -> list[Any]:
        return []

    async def execute(self, statement: str, *arguments: object) -> None:
        self.kept.append((statement, arguments))

    async def executemany(self, statement: str, many: Iterable[Sequence[object]]) -> None:
        self.kept += [(statement, arguments) for arguments in many]


async def _write_events(events: Sequence[RecordedEvent], path: Path) -> None:
    """Write what the peer needs: each event with the statements that it calls for, alone."""
    projections = [model.projection() for model in READ_MODELS.values()]
    with path.open("w", encoding="utf-8") as file:
        for recorded in events:
            statements = _Statements()
            connection = cast("PooledConnection", statements)
            for projection in projections:
                await projection.load(connection, [recorded])
                projection.apply(recorded)
                await projection.save(connection)
                projection.settle()
            line = [
                recorded.stream_id,
                recorded.version,
                recorded.type,
                recorded.occurred_at,
                (recorded.data or b"").decode(),
                statements.kept,
            ]
            file.write(json.dumps(line, default=_plain) + "\n")


def _plain(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value))
