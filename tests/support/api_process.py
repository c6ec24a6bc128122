"""An API in a process of its own, for tests that measure it: `python -m support.api_process`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from support.api import settings_for

from nbledger_http.edge import server


async def main(dsn: str, folder: str) -> None:
    """Serve until standard input ends; the address is the last line that is printed."""
    stop = asyncio.Event()

    async def watch() -> None:
        await asyncio.to_thread(sys.stdin.read)
        stop.set()

    watching = asyncio.create_task(watch())
    await server.serve(
        settings_for(dsn, Path(folder)), stop=stop, on_ready=lambda url: print(url, flush=True)
    )
    await watching


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
