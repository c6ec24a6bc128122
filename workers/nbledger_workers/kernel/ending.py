"""The orderly end of a kernel: exit hooks run, threads end, what is buffered is written out.

It comes before what the notebook has left is collected, since all of that writes files.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from nbledger_domain.words import counted
from nbledger_workers.kernel.launcher import MOST_NAMED
from nbledger_workers.kernel.startup import Kernel
from nbledger_workers.kernel.stop import Stop

#: Share of the time that threads may take: exit hooks run after them.
_THREADS_SHARE: Final = 0.7


async def end_in_order(
    kernel: Kernel, unfinished: list[str], stop: Stop, *, seconds: float
) -> list[str]:
    """Ask the kernel to end and wait for that; returns warnings of what was cut.

    `unfinished` says in words what it has to finish, as far as that is known. A stop that comes
    meanwhile cuts it. What is left of the kernel then is for its `end`.
    """
    begun = time.monotonic()
    threads = _THREADS_SHARE * seconds
    asking = asyncio.create_task(kernel.shut_down(thread_seconds=threads))
    waiting: set[asyncio.Task[object]] = {asyncio.create_task(kernel.died.wait())}
    if stop.outcome is None:
        waiting.add(asyncio.create_task(stop.event.wait()))
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (asking, *waiting):
            task.cancel()
        await asyncio.gather(asking, *waiting, return_exceptions=True)
    took = time.monotonic() - begun
    left = f" ({', '.join(unfinished)})" if unfinished else ""
    if not kernel.died.is_set():
        why = (
            f"it took longer than {counted(seconds, 'second')}" if took >= seconds else stop.detail
        )
        cut = "exit hooks, threads and open files were not waited for to the end"
        return [f"The notebook's {cut}: {why}{left}."]
    held = [each for each in unfinished if each.startswith("the thread ")]
    if held and took >= threads:
        limit = counted(threads, "second")
        return [
            f"The notebook's threads were not waited for longer than {limit}: {', '.join(held)}."
        ]
    return []


def cut_processes(names: list[str]) -> list[str]:
    """The warning of processes that the notebook left running; none without any."""
    if not names:
        return []
    shown = ", ".join(sorted(set(names))[:5])
    count = "1 process" if len(names) == 1 else f"{len(names)} processes"
    if len(names) == MOST_NAMED:
        count += " or more"
    return [f"{count} that the notebook left running had to be ended when it ended: {shown}."]
