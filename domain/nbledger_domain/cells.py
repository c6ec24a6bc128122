"""Cells of a notebook, their identifiers, and ranges of them."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from nbledger_domain.errors import Fault, InvalidInputError

CellType = Literal["code", "markdown", "raw"]

_NUMBERED = re.compile(r"^cell-(\d+)$")


class StoredOutputs(msgspec.Struct, frozen=True, rename="camel"):
    """Where the outputs that came with an uploaded cell are kept: an nbformat list, as JSON."""

    digest: str
    size: int
    count: int


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One cell, with everything that nbformat knows of it.

    ``modified_at`` is when its type, source, metadata or attachments last changed.
    """

    cell_id: str
    cell_type: CellType
    source: str
    metadata: dict[str, Any] = {}
    attachments: dict[str, Any] | None = None
    execution_count: int | None = None
    outputs: StoredOutputs | None = None
    modified_at: datetime | None = None

    @property
    def tags(self) -> list[str]:
        """The cell's tags, as nbformat keeps them in the metadata."""
        tags = self.metadata.get("tags", [])
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    def same_content(self, other: "Cell") -> bool:
        """Whether both say the same, whenever they were changed and whatever they put out."""
        return (
            self.cell_id == other.cell_id
            and self.cell_type == other.cell_type
            and self.source == other.source
            and self.metadata == other.metadata
            and self.attachments == other.attachments
        )


def free_ids(taken: Iterable[str]) -> Iterable[str]:
    """Unused ids ``cell-001``, ``cell-002``, …: counted on from the highest one taken."""
    numbers = (int(match[1]) for match in map(_NUMBERED.match, taken) if match)
    number = max(numbers, default=0)
    while True:
        number += 1
        yield f"cell-{number:03d}"


def select_range(cells: Sequence[Cell], start: str, end: str) -> Sequence[Cell]:
    """The cells from ``start`` to ``end``, both included.

    Raises :class:`InvalidInputError` for an unknown id or a reversed range.
    """
    index = {cell.cell_id: i for i, cell in enumerate(cells)}
    faults = [
        Fault(f"/cellRange/{field}", f"there is no cell {cell_id!r} in this notebook")
        for field, cell_id in (("startCell", start), ("endCell", end))
        if cell_id not in index
    ]
    if faults:
        raise InvalidInputError(faults)
    if index[start] > index[end]:
        reason = f"{end!r} comes before the start cell {start!r}"
        raise InvalidInputError([Fault("/cellRange/endCell", reason)])
    return cells[index[start] : index[end] + 1]
