"""Notes after each cell which results it has handed back.

The supervising child looks between a cell's end and the next one's begin, so that no cell can have
its results taken for those of another, whatever times it gives its files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from nbledger_workers.kernel import run_folder
from nbledger_workers.kernel.processes.environment import results_folder
from nbledger_workers.kernel.protocol import Described

PATTERN: Final = re.compile(r"\d{6}\.json")
"""Names of descriptions among the results."""

_MOST_NAMES: Final = 20_000
MOST_RESULTS: Final = 10_000
"""Of one run: so many are read at most."""


class Look(NamedTuple):
    """What a look has found.

    `described` are descriptions that are new or have changed. `mapped` are files among the results
    that a process of the run has mapped into memory: what is written to them through that later
    may not show in their times.
    """

    described: list[Described]
    mapped: list[str]


class HandedBack:
    """The descriptions of results in the folder of one run.

    `mapped_files` tells the inodes of files that the run has mapped into memory.
    """

    def __init__(self, folder: Path, mapped_files: Callable[[], set[int]]) -> None:
        self._folder = folder
        self._below = results_folder(folder).relative_to(folder).as_posix()
        self._mapped_files = mapped_files
        self._seen: dict[str, run_folder.Mark] = {}
        self._told = 0

    def new(self) -> Look:
        """Look for what has come since the last call; nothing where that cannot be seen.

        What lies beyond the first so many names is not looked at.
        """
        try:
            with run_folder.opened_folder(self._folder, self._below) as place:
                if place is None:
                    return Look([], [])
                found, _ = run_folder.names(place, PATTERN, limit=_MOST_NAMES)
                new = [(name, mark) for name, mark in found if self._seen.get(name) != mark]
                mapped: list[str] = []
                if new and (inodes := self._mapped_files()):
                    mapped = run_folder.with_inodes(place, inodes, limit=_MOST_NAMES)
        except OSError:
            return Look([], [])
        del new[max(MOST_RESULTS - self._told, 0) :]
        self._told += len(new)
        self._seen.update(new)
        return Look([Described(name, mark.inode, mark.changed_ns) for name, mark in new], mapped)
