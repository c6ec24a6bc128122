"""Puts what a kernel publishes where it belongs: into the outputs of a cell, or into a widget."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from nbledger_domain.vocabulary.outputs import OUTPUT_TYPES
from nbledger_workers.kernel.outputs.collector import OutputCollector
from nbledger_workers.kernel.outputs.widgets import WidgetStates

_DISPLAYS: Final = frozenset({"update_display_data", "display_data", "execute_result"})
_COMMS: Final = frozenset({"comm_open", "comm_msg", "comm_close"})


class Routing:
    """The outputs of a run's cells.

    Output belongs to the cell that its message names as its cause. Output that a thread puts out
    which has outlived its cell is kept with the cell that runs when it comes, or that ran last.
    So is all that the kernel puts out while it ends in order. What else belongs to no cell, such as
    remarks of the kernel's own at its start, is not kept.
    """

    def __init__(self) -> None:
        self.collectors: dict[int, OutputCollector] = {}
        #: Earlier cells whose outputs were changed.
        self.changed: set[int] = set()
        #: Set when the kernel has begun with the running cell.
        self.executing = asyncio.Event()
        #: The state of widgets, with what is put out into them, where that is kept.
        self.widgets: WidgetStates | None = None
        self._index = self._before = -1
        # Cells by the ids of their requests.
        self._cells: dict[str, int] = {}
        self._begun = False
        self._ending = False

    def begin(self, index: int, collector: OutputCollector) -> None:
        """Make the cell at `index` the one that runs."""
        self._before, self._index = self._index, index
        self.collectors[index] = collector
        self.executing.clear()
        self._begun = False

    def begin_end(self) -> None:
        """Keep all output from now on with the last cell."""
        self._ending = True

    @property
    def ending(self) -> bool:
        """Whether `begin_end` was called."""
        return self._ending

    def add_request(self, request_id: str) -> None:
        """Note that a request is the running cell's."""
        self._cells[request_id] = self._index

    def is_of_cell(self, request_id: object) -> bool:
        """Whether a request is any cell's; raises TypeError of what cannot be an id."""
        return request_id in self._cells

    def note_status(self, request_id: object) -> bool:
        """Note that the kernel told its status for a request; whether it is the running cell's.

        Raises TypeError of what cannot be an id.
        """
        if self._cells.get(request_id) != self._index:  # type: ignore[call-overload]
            return False
        self._begun = True
        return True

    def conclude(self) -> None:
        """Forget the outputs of the cell before this one, unless a later cell can change them."""
        before = self.collectors.get(self._before)
        if before is not None and not before.has_displays and self._before != self._index:
            del self.collectors[self._before]

    @property
    def last(self) -> OutputCollector | None:
        """What takes the output of the cell that runs, or ran last."""
        return self.collectors.get(self._index)

    def note_changed(self) -> None:
        """Note that the outputs of the last cell have changed."""
        self.changed.add(self._index)

    def add_text(self, written: dict[str, str]) -> None:
        """Take text by stream, which came otherwise than by messages, for the last cell."""
        for name, text in written.items():
            if self.last is not None:
                self.last.add({"msg_type": "stream", "content": {"name": name, "text": text}})
                self.note_changed()

    def take(self, kind: str, parent: str | None, message: dict[str, Any]) -> bool:
        """Take a message; whether it was output of a cell."""
        if self.widgets is not None and kind in _COMMS:
            self.widgets.take(message)
            return False
        index = None if parent is None else self._cells.get(parent)
        if index is None and self._ending and self._index in self.collectors:
            # What exit hooks and threads put out now has the request to end for its cause.
            index = self._index
        if index is None:
            return False
        if index == self._index:
            self._begun = True
            if kind == "execute_input":
                self.executing.set()
        if self.widgets is not None and self.widgets.captures(message):
            return False
        return self._put(kind, index, message)

    def _put(self, kind: str, index: int, message: dict[str, Any]) -> bool:
        """Put what a cell shows where it belongs; whether it shows something."""
        collector = self._collector_of(index)
        content = message["content"]
        if kind in OUTPUT_TYPES:
            collector.add(message)
        elif kind == "clear_output":
            # Not by what has outlived its cell: it would take what another cell has put out.
            if index == self._index:
                collector.clear(wait=bool(content.get("wait")))
        elif kind != "update_display_data":
            return False
        if kind in _DISPLAYS and (content.get("transient") or {}).get("display_id"):
            for other, each in self.collectors.items():
                if each.update(message) and other != self._index:
                    self.changed.add(other)
        return True

    def _collector_of(self, index: int) -> OutputCollector:
        """What takes the output of a cell.

        Before the kernel has begun with the running cell, the one before has not really ended.
        """
        if index == self._before and not self._begun and index in self.collectors:
            self.changed.add(index)
            return self.collectors[index]
        return self.collectors[self._index]
