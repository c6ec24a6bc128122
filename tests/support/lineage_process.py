"""The process managers, with lineage, as a process of their own.

Arguments: the DSN, and the URL of the receiver. Prints a line once they are at work or stand by.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from nbledger_infrastructure.settings import Postgres, Settings
from nbledger_infrastructure.settings_sections.lineage import OpenLineage
from nbledger_workers.sweeping.process_managers import run


async def main(dsn: str, url: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    lineage = OpenLineage(transport="http", url=url, timeout_seconds=2.0)
    settings = Settings(postgres=Postgres(dsn=dsn), lineage=lineage)
    await run(settings, stop, lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
