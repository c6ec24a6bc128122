"""Notes after each cell which results it has handed back.

The supervising child looks between a cell's end and the next one's begin, so that no cell can have
its results taken for those of another, whatever times it gives its files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nbledger_workers.kernel import run_folder
from nbledger_workers.kernel.processes.environment import results_folder
from nbledger_workers.kernel.protocol import Described

PATTERN: Final = re.compile(r"\d{6}\.json")
"""Names of descriptions among the results."""

_MOST_NAMES: Final = 20_000
MOST_RESULTS: Final = 10_000
"""Of one run: so many are read at most."""


class HandedBack:
    """The descriptions of results in the folder of one run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._below = results_folder(folder).relative_to(folder).as_posix()
        self._seen: dict[str, run_folder.Mark] = {}
        self._told = 0

    def new(self) -> list[Described]:
        """Those that are new or have changed since the last call; none where that cannot be seen.

        What lies beyond the first so many names is not looked at.
        """
        try:
            with run_folder.opened_folder(self._folder, self._below) as place:
                if place is None:
                    return []
                found, _ = run_folder.names(place, PATTERN, limit=_MOST_NAMES)
        except OSError:
            return []
        new = [(name, mark) for name, mark in found if self._seen.get(name) != mark]
        del new[max(MOST_RESULTS - self._told, 0) :]
        self._told += len(new)
        self._seen.update(new)
        return [Described(name, mark.inode, mark.changed_ns) for name, mark in new]
