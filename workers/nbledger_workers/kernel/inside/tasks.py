"""Asyncio tasks that a notebook leaves pending; runs inside the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nbledger_workers.kernel.inside.texts import text_of

_MOST_NAMES = 5
_MOST_CHARACTERS = 100
# Packages whose tasks belong to the kernel itself.
_OF_KERNEL = frozenset(
    {"ipykernel", "IPython", "tornado", "zmq", "jupyter_client", "comm", "nbledger_workers"}
)


def pending_tasks() -> tuple[int, list[str]]:
    """How many tasks of the notebook the running loop has, and names of their coroutines.

    Tasks that are about to end by a cancel do not count. Tasks may be of classes of the notebook's
    own: whatever these raise, `SystemExit` too, costs no more than the name.
    """
    current = asyncio.current_task()
    try:
        tasks = [task for task in asyncio.all_tasks() if task is not current]
    except BaseException:  # noqa: BLE001
        return 0, []
    pending = [task for task in tasks if not _is(_is_cancelled, task)]
    names = [_name(task) for task in pending if not _is(_is_of_kernel, task)]
    return len(names), sorted({name for name in names if name})[:_MOST_NAMES]


def _is(what: Callable[[Any], bool], task: Any) -> bool:
    try:
        return what(task)
    except BaseException:  # noqa: BLE001
        return False


def _is_cancelled(task: Any) -> bool:
    return bool(task.done() or getattr(task, "cancelling", int)() > 0)


def _is_of_kernel(task: Any) -> bool:
    frame = getattr(task.get_coro(), "cr_frame", None)
    module = "" if frame is None else str(frame.f_globals.get("__name__"))
    return module.partition(".")[0] in _OF_KERNEL


def _name(task: Any) -> str:
    try:
        name = getattr(task.get_coro(), "__qualname__", None) or task.get_name()
    except BaseException:  # noqa: BLE001
        return ""
    return text_of(name, _MOST_CHARACTERS)
