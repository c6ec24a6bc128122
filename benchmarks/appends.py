"""Durable appends per second, 32 callers at once, each waiting for its own answer."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import msgspec

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare
from benchmarks.history import histories
from benchmarks.peer import Peer
from nbledger_domain.events import encode
from nbledger_domain.execution import Execution
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, NewEvent, Stream

CALLERS = 32
METADATA = Metadata(actor="bench", correlation_id=str(uuid4()), request_id=str(uuid4()))


def appends(bench: Bench) -> list[Figure]:
    """Ours against the eventsourcing library's recorder and against plain INSERTs."""
    seconds = 0.2 if bench.quick else 2.0
    type_name, data = cell_executed()
    ours_dsn = bench.new_database("appends_ours")
    plain_dsn = bench.new_database("appends_plain")
    recorder_dsn = bench.new_database("appends_recorder", migrated=False)

    pool = bench.connect(ours_dsn)
    store = EventStore(pool)

    async def ours_round() -> float:
        await store.start()
        try:
            return await append(store, type_name, data, seconds)
        finally:
            await store.close()

    with Peer("recorder") as recorder, Peer("plain_insert") as plain:
        recorder.ask("start", env=eventsourcing_env(recorder_dsn))
        plain.ask("start", dsn=plain_dsn, callers=CALLERS)

        def recorder_round(variant: str) -> float:
            answer = recorder.ask(
                "measure",
                variant=variant,
                callers=CALLERS,
                seconds=seconds,
                type_name=type_name,
                data=data.decode(),
            )
            return float(answer["perSecond"])

        def plain_round() -> float:
            answer = plain.ask(
                "measure",
                seconds=seconds,
                type_name=type_name,
                data=data.decode(),
                metadata=msgspec.json.encode(METADATA).decode(),
            )
            return float(answer["perSecond"])

        rounds = bench.alternate(
            [
                lambda: bench.run(ours_round()),
                lambda: recorder_round("default"),
                plain_round,
                lambda: recorder_round("function"),
            ]
        )
    bench.run(pool.close())
    for name in ("appends_ours", "appends_plain", "appends_recorder"):
        bench.drop_database(name)

    name = f"durable appends, {CALLERS} concurrent callers"
    return [
        compare(
            figure=name,
            unit="appends/s",
            against="eventsourcing PostgreSQL recorder",
            pairs=[(ours, default) for ours, default, _, _ in rounds],
            bound=10,
        ),
        compare(
            figure=name,
            unit="appends/s",
            against="the same with database functions (positions may commit out of order)",
            pairs=[(ours, function) for ours, _, _, function in rounds],
            bound=10,
        ),
        compare(
            figure=name,
            unit="appends/s",
            against=f"one asyncpg INSERT per transaction, {CALLERS} connections",
            pairs=[(ours, plain) for ours, _, plain, _ in rounds],
            bound=2,
        ),
    ]


def eventsourcing_env(dsn: str) -> dict[str, str]:
    """A DSN as the eventsourcing library's settings."""
    parts = urlsplit(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": parts.hostname or "",
        "POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": unquote(parts.username or ""),
        "POSTGRES_PASSWORD": unquote(parts.password or ""),
    }


def cell_executed() -> tuple[str, bytes]:
    """Type and data of the event that is appended most: a cell has run."""
    for history in histories(1):
        for event in history.events:
            if isinstance(event, Execution.CellExecuted):
                return event.TYPE, encode(event)
    raise AssertionError("a history without executed cells")


async def append(store: EventStore, type_name: str, data: bytes, seconds: float) -> float:
    """Appends per second of all callers."""
    tenant, project = new_id(), new_id()

    async def caller(end: float) -> int:
        stream_id = new_id()
        stream = Stream(stream_id, stream_id, tenant, project)
        version = 0
        while time.perf_counter() < end:
            event = NewEvent(new_id(), type_name, data, datetime.now(UTC))
            await store.append(stream, [event], expected_version=version, metadata=METADATA)
            version += 1
        return version

    begin = time.perf_counter()
    counts = await asyncio.gather(*(caller(begin + seconds) for _ in range(CALLERS)))
    return sum(counts) / (time.perf_counter() - begin)
