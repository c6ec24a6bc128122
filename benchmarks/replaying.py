"""Replays, events per second from the store to the broker's acknowledgement."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare, within
from benchmarks.filling import append_all
from benchmarks.history import histories
from benchmarks.peer import Peer
from benchmarks.relaying import write_records
from nbledger.embedded.tansu import start_tansu
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.kafka.clients import ensure_replay_topic
from nbledger_infrastructure.kafka.replays.carrying_out import carry_out
from nbledger_infrastructure.postgres import event_replays
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_replays import ReplayRange
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.settings import Kafka, Postgres, Settings

EVENTS = 60_000
EVENTS_IN_FULL = 1_000_000
EVENTS_OF_A_NOTEBOOK = 15
RECORDS = 60_000
"""So many records the peer has in memory at most, and sends them over and over."""
MEGABYTES = 200
"""What a replay may take, whatever there is to publish."""

TOPIC = "nbledger.replay.bench"


def replaying(bench: Bench) -> list[Figure]:
    """Ours against a bare producer with the same records, each round to a broker of its own."""
    wanted = 3_000 if bench.quick else EVENTS_IN_FULL if bench.full else EVENTS
    dsn = bench.new_database("replay")
    pool = bench.connect(dsn)
    notebooks = wanted // EVENTS_OF_A_NOTEBOOK
    count = bench.run(_filled(pool, notebooks))
    known = bench.run(_first(pool, min(count, RECORDS)))
    records = bench.scratch / "replayed.jsonl"
    write_records(known, Kafka(), records, replay_to=TOPIC)
    repeat = max(count // len(known), 1)

    def ours() -> float:
        with _broker(bench, dsn) as settings:
            return count / bench.run(_replay(pool, settings, count))

    def theirs() -> float:
        with _broker(bench, dsn) as settings, Peer("producer") as peer:
            bench.run(ensure_replay_topic(settings.kafka, TOPIC))
            peer.ask(
                "start",
                bootstrap_servers=settings.kafka.bootstrap_servers,
                topic=TOPIC,
                records=str(records),
                repeat=repeat,
            )
            rate = float(peer.ask("measure")["perSecond"])
            peer.ask("stop")
            return rate

    rounds = bench.alternate([ours, theirs], rounds=2 if bench.full else None)
    with _broker(bench, dsn) as settings:
        megabytes = _memory(settings)
    bench.run(pool.close())
    bench.drop_database("replay")
    return [
        compare(
            figure=f"replay of {count:,} events to a topic",
            unit="events/s",
            against="bare aiokafka producer",
            pairs=[(mine, other) for mine, other in rounds],
            bound=0.4,
        ),
        within(
            figure=f"memory of a replay of {count:,} events",
            unit="MB",
            values=[megabytes],
            bound=MEGABYTES,
        ),
    ]


@contextmanager
def _broker(bench: Bench, dsn: str) -> Iterator[Settings]:
    """An empty broker: it keeps in memory whatever it was sent."""
    broker = bench.run(start_tansu(bench.scratch / "tansu-replay.log"))
    try:
        kafka = Kafka(bootstrap_servers=broker.bootstrap_servers, idempotent=False)
        yield Settings(postgres=Postgres(dsn=dsn), kafka=kafka)
    finally:
        bench.run(broker.stop())


async def _filled(pool: Pool, notebooks: int) -> int:
    store = EventStore(pool)
    await store.start()
    try:
        return await append_all(store, histories(notebooks), new_id(), new_id())
    finally:
        await store.close()


async def _first(pool: Pool, count: int) -> list[RecordedEvent]:
    found: list[RecordedEvent] = []
    store = EventStore(pool)
    while len(found) < count:
        found += await store.read_all(after_position=len(found), limit=count - len(found))
    return found


async def _replay(pool: Pool, settings: Settings, last: int) -> float:
    """Seconds from the beginning to the last acknowledgement, the topic being made included."""
    async with acquire(pool) as connection:
        replay = await event_replays.create(
            connection,
            ReplayRange(topic=TOPIC, first=1, last=last),
            requested_by="bench",
            by_command=True,
        )
    begin = time.perf_counter()
    ended = await carry_out(pool, settings, replay, asyncio.Event())
    elapsed = time.perf_counter() - begin
    assert (ended.state, ended.published) == ("completed", last)
    return elapsed


def _memory(settings: Settings) -> float:
    """Most megabytes of the command that replays everything."""
    process = subprocess.Popen(
        [*(sys.executable, "-m", "nbledger", "relay", "--replay"), "--topic", TOPIC],
        env={
            **os.environ,
            "NBLEDGER_POSTGRES_DSN": settings.postgres.dsn,
            "NBLEDGER_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
            "NBLEDGER_KAFKA_IDEMPOTENT": "false",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    # Linux tells kilobytes, macOS bytes.
    return used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
