"""The row of an execution's status: the document, and what folding on needs besides."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec

from nbledger_domain.execution import CellStatus, ExecutionStatus
from nbledger_projections.machinery.snapshots import LEAST_BYTES
from nbledger_projections.read_models.executions.documents import (
    CellResultDocument,
    ExecutionDocument,
)


class Places:
    """Where the cells of a run are, and how far it is, without looking through thousands of them.

    Cells may take any status at any time but two: that one runs is told (:meth:`started`), and none
    waits again.
    """

    __slots__ = ("_index", "_pending", "_running", "cells", "silent")

    def __init__(self, cells: list[CellResultDocument], silent: Collection[str]) -> None:
        self.cells, self.silent = cells, frozenset(silent)
        statuses = [cell.status for cell in cells]
        self._running = {
            index for index, status in enumerate(statuses) if status == CellStatus.RUNNING
        }
        self._pending = 0
        self._index: dict[str, int] | None = None

    def of(self, cell_id: str) -> int | None:
        """The place of a cell, counted from 0."""
        # Most events are about a cell that the run is at.
        near = (self.pending - 1, self.pending)
        for index in near:
            if 0 <= index < len(self.cells) and self.cells[index].cell_id == cell_id:
                return index
        if self._index is None:
            self._index = {}
            for index, cell in enumerate(self.cells):
                self._index.setdefault(cell.cell_id, index)
        return self._index.get(cell_id)

    @property
    def running(self) -> int | None:
        """The first cell that runs."""
        self._running = {
            index for index in self._running if self.cells[index].status == CellStatus.RUNNING
        }
        return min(self._running, default=None)

    @property
    def pending(self) -> int:
        """The first cell that waits, or how many cells there are."""
        cells = self.cells
        while self._pending < len(cells) and cells[self._pending].status != CellStatus.PENDING:
            self._pending += 1
        return self._pending

    def started(self, index: int) -> None:
        """A cell runs now."""
        self._running.add(index)


class ExecutionRow(msgspec.Struct, dict=True):
    """A row: the document, and what folding on needs besides.

    ``silent`` holds the cells that go to no kernel: they succeed in passing. ``request_warnings``
    are those that the request was recorded with, which hold for every attempt.
    """

    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    version: int
    requested_position: int
    updated_at: datetime
    started_at: datetime
    document: ExecutionDocument
    silent: list[str]
    request_warnings: list[str]
    until_snapshot: int = LEAST_BYTES

    @property
    def ended(self) -> bool:
        """Whether the terminal event has happened."""
        return self.document.status != ExecutionStatus.RUNNING

    @property
    def places(self) -> Places:
        """Where its cells are; it follows from the document, and is kept beside it."""
        kept: Places | None = vars(self).get("places")
        if kept is None or kept.cells is not self.document.cell_results:
            kept = Places(self.document.cell_results, self.silent)
            vars(self)["places"] = kept
        return kept
