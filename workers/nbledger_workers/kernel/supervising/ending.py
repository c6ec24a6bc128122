"""The orderly end of a kernel: exit hooks run, threads end, what is buffered is written out.

It comes before what the notebook has left is collected, since all of that writes files.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from nbledger_domain.unseen import all_seen
from nbledger_domain.words import MOST_LISTED, counted
from nbledger_workers.kernel.channels.cell_end import Told
from nbledger_workers.kernel.supervising.cells import Cells
from nbledger_workers.kernel.supervising.startup import Kernel
from nbledger_workers.kernel.supervising.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Share of the time that threads may take: exit hooks run after them.
_THREADS_SHARE: Final = 0.7


async def end_in_order(kernel: Kernel, cells: Cells, stop: Stop, *, seconds: float) -> list[str]:
    """Ask the kernel to end and wait for that; returns warnings of what was cut.

    What it puts out meanwhile is taken for the last of the cells. A stop that comes meanwhile cuts
    it. What is left of the kernel then is for its `end`.
    """
    unfinished = [] if cells.told is None else cells.told.unfinished
    farewell = uuid4().hex
    begun = time.monotonic()
    threads = _THREADS_SHARE * seconds
    taking = asyncio.create_task(cells.begin_end(farewell))
    asking = asyncio.create_task(kernel.shut_down(thread_seconds=threads, farewell=farewell))
    waiting: set[asyncio.Task[object]] = {asyncio.create_task(kernel.died.wait())}
    if stop.outcome is None:
        waiting.add(asyncio.create_task(stop.event.wait()))
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (taking, asking, *waiting):
            task.cancel()
        await asyncio.gather(taking, asking, *waiting, return_exceptions=True)
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


def cut_tasks(told: Told) -> list[str]:
    """The warning of asyncio tasks that were pending after the last cell; none without any."""
    if not told.tasks:
        return []
    tasks = "1 asyncio task" if told.tasks == 1 else f"{told.tasks:,} asyncio tasks"
    names = ", ".join(all_seen(name, "\ufffd") for name in told.task_names[:MOST_LISTED])
    which = f": {names}" if names else ""
    return [f"{tasks} that the notebook left pending had to be cut when it ended{which}."]


def cut_processes(left: Mapping[str, int]) -> list[str]:
    """The warning of processes that the notebook left running, counted by name; none without any.

    Names of some of them may not be known: they count under "".
    """
    count = sum(left.values())
    if not count:
        return []
    processes = "1 process" if count == 1 else f"{count:,} processes"
    told = f"{processes} that the notebook left running had to be ended when it ended"
    names = sorted(name for name in left if name)
    if not names:
        return [f"{told}."]
    others = " and others" if len(names) > MOST_LISTED or "" in left else ""
    return [f"{told}: {', '.join(names[:MOST_LISTED])}{others}."]
