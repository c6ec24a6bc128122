"""A scheduler as a process of its own, by a clock that the test sets in table ``test_clock``.

Arguments: the DSN, and settings of webhooks as JSON if any. Prints a line once it is at work or
stands by.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import datetime

import msgspec

from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.settings import Executions, Postgres, Settings, Webhooks
from nbledger_workers.sweeping.process_managers import run


async def now(connection: PooledConnection) -> datetime:
    """The time that the test has set."""
    found: datetime = await connection.fetchval("SELECT time FROM test_clock")
    return found


async def main(dsn: str, webhooks: Webhooks) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # No worker is there to run what is asked for.
    executions = Executions(queue_without_worker=True)
    settings = Settings(postgres=Postgres(dsn=dsn), execution=executions, webhooks=webhooks)
    await run(settings, stop, lambda: print("ready", flush=True), now=now)


if __name__ == "__main__":
    told = sys.argv[2] if len(sys.argv) > 2 else "{}"
    asyncio.run(main(sys.argv[1], msgspec.json.decode(told, type=Webhooks)))
