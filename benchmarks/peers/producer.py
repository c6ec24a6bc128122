"""A bare aiokafka producer sending ready-made records.

Choices in the peer's favour: uvloop; `send()` for every record and one wait for all the
acknowledgements at the end; large batches; no lingering (5 ms of it made it slower); the
records decoded before the clock starts. `acks="all"` and the same idempotence setting as the
relay, for the same promise.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.peers.protocol import serve

_loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
_state: dict[str, Any] = {}


def start(bootstrap_servers: str, topic: str, records: str, repeat: int = 1) -> int:
    """Connect, and read `records`: a file of JSON lines [key, value, [[name, value], …]].

    They are sent `repeat` times over.
    """
    decode = base64.b64decode
    _state["topic"], _state["repeat"] = topic, repeat
    _state["records"] = [
        (decode(key), decode(value), [(name, decode(text)) for name, text in headers])
        for key, value, headers in map(json.loads, Path(records).read_text().splitlines())
    ]

    async def connect() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            acks="all",
            enable_idempotence=False,
            max_batch_size=256 * 1024,
            linger_ms=0,
        )
        await producer.start()
        await producer.partitions_for(topic)
        _state["producer"] = producer

    _loop.run(connect())
    return len(_state["records"])


def measure() -> dict[str, float]:
    """Records per second from the first send to the last acknowledgement."""

    async def run() -> dict[str, float]:
        producer, topic = _state["producer"], _state["topic"]
        begin = time.perf_counter()
        acknowledged = [
            await producer.send(topic, value=value, key=key, headers=headers)
            for _ in range(_state["repeat"])
            for key, value, headers in _state["records"]
        ]
        await asyncio.gather(*acknowledged)
        elapsed = time.perf_counter() - begin
        return {"perSecond": len(acknowledged) / elapsed, "count": len(acknowledged)}

    return _loop.run(run())


def stop() -> None:
    _loop.run(_state["producer"].stop())


if __name__ == "__main__":
    serve({"start": start, "measure": measure, "stop": stop})
