"""What the embedded Kafka brokers have in common: the handle, and a probe in the protocol."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from nbledger.embedded.errors import ServiceFailedError
from nbledger.embedded.ports import LOOPBACK
from nbledger.embedded.processes import terminate

_PROBE_SECONDS = 0.02
_ANSWER_SECONDS = 5.0


@dataclass
class EmbeddedBroker:
    """A running broker with one node.

    Attributes:
        bootstrap_servers: `host:port`, as Kafka clients take it.
        log_file: where it writes.
        process: the broker's process, our child.
    """

    bootstrap_servers: str
    log_file: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    stop_seconds: float = 5.0
    """Seconds the broker has to end in order before it is killed."""

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        return self.process.pid

    async def stop(self) -> None:
        """End it, bounded by `stop_seconds`. Safe to call twice."""
        await terminate(self.process, self.stop_seconds)


async def wait_until_ready(
    name: str,
    process: subprocess.Popen[bytes],
    port: int,
    log_file: Path,
    *,
    limit: float,
    client: Mapping[str, Any] | None = None,
) -> None:
    """Wait until the broker on the port answers a metadata request and names itself.

    `client` holds further options of `AIOKafkaAdminClient`, for a broker that wants to know who
    asks.

    Raises:
        ServiceFailedError: it ended, or did not answer within `limit` seconds.
    """
    try:
        async with asyncio.timeout(limit):
            while not await _answers(port, client or {}):
                if process.poll() is not None:
                    raise ServiceFailedError(
                        name, f"ended with status {process.returncode}", log_file
                    )
                await asyncio.sleep(_PROBE_SECONDS)
    except TimeoutError:
        raise ServiceFailedError(name, f"did not answer within {limit:g} s", log_file) from None


async def _answers(port: int, options: Mapping[str, Any]) -> bool:
    # A bare connection first: the client logs an error for every one that is refused.
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            await writer.wait_closed()
    except OSError:
        return False
    client = AIOKafkaAdminClient(
        bootstrap_servers=f"{LOOPBACK}:{port}",
        request_timeout_ms=int(_ANSWER_SECONDS * 1000),
        **options,
    )
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await client.start()
            cluster = await client.describe_cluster()
            return bool(cluster["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        with suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await client.close()
