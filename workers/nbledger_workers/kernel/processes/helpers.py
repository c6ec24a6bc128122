"""Programs that a worker starts to do one thing for it, and talks to over pipes."""

import asyncio
import contextlib
from typing import Final

_END_SECONDS: Final = 5.0


async def end(process: asyncio.subprocess.Process) -> None:
    """End the process if it is still there, and close its pipes."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    # Reads what is left in the pipes, so that they are closed as well.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_END_SECONDS):
            await process.communicate()
