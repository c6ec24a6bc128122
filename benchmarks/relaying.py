"""The relay, events per second from the store to the broker's acknowledgement."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare
from benchmarks.filling import append_all
from benchmarks.history import histories
from benchmarks.peer import Peer
from nbledger.embedded.tansu import start_tansu
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.kafka import messages, relay
from nbledger_infrastructure.kafka.clients import ensure_topics, events_topic
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.database import acquire, connect_pool
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.settings import Kafka, Postgres, Settings

NOTEBOOKS = 1_000


def relaying(bench: Bench) -> list[Figure]:
    """Ours against a bare producer with the same records, to the same broker.

    Each round relays all events from the first one on. Ours also reads them, makes the records,
    publishes the commands that follow from them and moves its checkpoint; the peer has ready
    records in memory.
    """
    dsn = bench.new_database("relay")
    pool = bench.connect(dsn)

    async def fill() -> list[RecordedEvent]:
        store = EventStore(pool)
        await store.start()
        await append_all(store, histories(20 if bench.quick else NOTEBOOKS), new_id(), new_id())
        await store.close()
        return await store.read_all(after_position=0, limit=NOTEBOOKS * 15)

    events = bench.run(fill())
    broker = bench.run(start_tansu(bench.scratch / "tansu.log"))
    try:
        kafka = Kafka(bootstrap_servers=broker.bootstrap_servers, idempotent=False)
        peer_kafka = Kafka(
            bootstrap_servers=broker.bootstrap_servers, idempotent=False, topic_prefix="peer"
        )
        bench.run(ensure_topics(peer_kafka, []))
        settings = Settings(postgres=Postgres(dsn=dsn), kafka=kafka)
        last = events[-1].position

        async def relay_all() -> float:
            return len(events) / await _relay_until(dsn, settings, last)

        records = bench.scratch / "records.jsonl"
        write_records(events, kafka, records)
        with Peer("producer") as peer:
            peer.ask(
                "start",
                bootstrap_servers=broker.bootstrap_servers,
                topic=events_topic(peer_kafka),
                records=str(records),
            )
            rounds = bench.alternate(
                [
                    lambda: bench.run(relay_all()),
                    lambda: float(peer.ask("measure")["perSecond"]),
                ]
            )
            peer.ask("stop")
    finally:
        bench.run(broker.stop())
    bench.run(pool.close())
    bench.drop_database("relay")
    return [
        compare(
            figure="relay, from store to acknowledged",
            unit="events/s",
            against="bare aiokafka producer",
            pairs=[(ours, theirs) for ours, theirs in rounds],
            bound=0.4,
        )
    ]


async def _relay_until(dsn: str, settings: Settings, last: int) -> float:
    """Seconds from the moment the relay is at work, at position 0, to its checkpoint at `last`."""
    pool = await connect_pool(dsn, max_size=2, application_name="bench")
    stop, ready, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def moved(*notification: Any) -> None:
        if notification[-1] == f"{relay.NAME}:{last}":
            done.set()

    async with acquire(pool) as connection:
        await checkpoints.ensure(connection, relay.NAME)
        await connection.execute(
            "UPDATE projection_checkpoint SET position = 0 WHERE name = $1", relay.NAME
        )
        await connection.add_listener(checkpoints.CHANNEL, moved)
        running = asyncio.create_task(relay.run(settings, stop, ready.set))
        async with asyncio.timeout(300):
            await ready.wait()
            begin = time.perf_counter()
            await done.wait()
            elapsed = time.perf_counter() - begin
        stop.set()
        await running
        await connection.remove_listener(checkpoints.CHANNEL, moved)
    await pool.close()
    return elapsed


def write_records(
    events: Sequence[RecordedEvent], kafka: Kafka, path: Path, *, replay_to: str | None = None
) -> None:
    """Write the messages of events as the peer reads them."""

    def text(data: bytes | None) -> str:
        return base64.b64encode(data or b"").decode()

    with path.open("w", encoding="ascii") as file:
        for event in events:
            message = messages.event_message(event, kafka, "", replay_to=replay_to)
            headers = [(name, text(value)) for name, value in message.headers]
            file.write(json.dumps([text(message.key), text(message.value), headers]) + "\n")
