"""A manager of notices as a process of its own, by a clock that the test sets.

Argument: the DSN. The time is that of table ``test_clock``. Prints a line once it is at work or
stands by.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from support.scheduler_process import now

from nbledger_infrastructure.settings import Notices, Postgres, Settings
from nbledger_workers.sweeping.process_managers import run

KERNEL_SECONDS = 600.0


async def main(dsn: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings(postgres=Postgres(dsn=dsn), notices=Notices(kernel_seconds=KERNEL_SECONDS))
    await run(settings, stop, lambda: print("ready", flush=True), now=now)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
