"""Copying files out of a notebook's reach, within what a run may leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure.settings import RunLimits
from nbledger_workers.kernel import run_folder
from nbledger_workers.kernel.run_folder import Copied, RefusedError

_UNLIMITED: Final = 1 << 62
_T = TypeVar("_T")


class Copier:
    """Counts what the files of one run weigh together; ``files_left`` is how many it may leave."""

    def __init__(self, limits: RunLimits) -> None:
        self._file_bytes = limits.artifact_mb_per_file * MB or _UNLIMITED
        self._bytes_left = limits.artifact_mb_per_run * MB or _UNLIMITED
        self.files_left = limits.artifacts_per_run or _UNLIMITED

    async def copy(
        self, place: int, path: str, target: Path, unchanged_since: int | None = None
    ) -> Copied:
        """Copy ``path`` below the opened folder ``place`` to ``target``; see ``run_folder.copy``.

        Raises :class:`RefusedError`, where a limit is reached, too.
        """
        if self.files_left <= 0:
            raise RefusedError("a run may leave no more files")
        limit = min(self._file_bytes, self._bytes_left)
        stop = threading.Event()
        copied = await in_thread(
            partial(
                run_folder.copy,
                place,
                path,
                target,
                limit=limit,
                stop=stop,
                unchanged_since=unchanged_since,
            ),
            stop,
        )
        self.files_left -= 1
        self._bytes_left -= copied.size
        return copied


async def in_thread(work: Callable[[], _T], stop: threading.Event | None = None) -> _T:
    """The result of blocking work. Where nobody waits for it any more, ``stop`` is set.

    Returns only when the thread is through with the folder, which is closed then.
    """
    working = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        await asyncio.gather(working, return_exceptions=True)
        raise
