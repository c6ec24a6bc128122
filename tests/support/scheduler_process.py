"""A scheduler as a process of its own, by a clock that the test sets in table ``test_clock``.

Argument: the DSN. Prints a line once it is at work or stands by.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import datetime

from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.settings import Executions, Postgres, Settings
from nbledger_workers.sweeping.process_managers import run


async def now(connection: PooledConnection) -> datetime:
    """The time that the test has set."""
    found: datetime = await connection.fetchval("SELECT time FROM test_clock")
    return found


async def main(dsn: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # No worker is there to run what is asked for.
    executions = Executions(queue_without_worker=True)
    settings = Settings(postgres=Postgres(dsn=dsn), execution=executions)
    await run(settings, stop, lambda: print("ready", flush=True), now=now)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
