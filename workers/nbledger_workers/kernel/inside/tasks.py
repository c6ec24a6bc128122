"""Asyncio tasks that a notebook leaves pending; runs inside the kernel."""

from __future__ import annotations

import asyncio
from typing import Any

_MOST_NAMES = 5
_MOST_CHARACTERS = 100
# Packages whose tasks belong to the kernel itself.
_OF_KERNEL = frozenset(
    {"ipykernel", "IPython", "tornado", "zmq", "jupyter_client", "comm", "nbledger_workers"}
)


def pending_tasks() -> tuple[int, list[str]]:
    """How many tasks of the notebook the running loop has, and names of their coroutines.

    Tasks that are about to end by a cancel do not count.
    """
    current = asyncio.current_task()
    names = [
        _name(task)
        for task in asyncio.all_tasks()
        if task is not current and not _is_cancelled(task) and not _is_of_kernel(task)
    ]
    return len(names), sorted(set(names))[:_MOST_NAMES]


def _is_cancelled(task: Any) -> bool:
    return task.done() or getattr(task, "cancelling", int)() > 0


def _is_of_kernel(task: Any) -> bool:
    frame = getattr(task.get_coro(), "cr_frame", None)
    module = "" if frame is None else str(frame.f_globals.get("__name__"))
    return module.partition(".")[0] in _OF_KERNEL


def _name(task: Any) -> str:
    name = getattr(task.get_coro(), "__qualname__", None) or task.get_name()
    return str(name)[:_MOST_CHARACTERS]
