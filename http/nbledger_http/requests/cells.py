"""Cells as clients write them."""

from collections.abc import Sequence
from typing import Any

import msgspec

from nbledger_domain.cells import Cell, CellType, free_ids
from nbledger_domain.vocabulary.cell_ids import CELL_ID
from nbledger_http.requests.validation import Members

MAX_CELLS = 10_000

READ_ONLY = (
    "executionCount",
    "hasOutput",
    "lastExecuted",
    "executionStatus",
    "lastModified",
)
"""Members of a cell that answers carry and requests may send back."""


def new_cells(
    members: Members, name: str, *, before: Sequence[Cell], warnings: list[str]
) -> list[Cell]:
    """The cells of a new notebook in the list ``name``, after those that it has already."""
    return _cells(members, name, known={}, taken=[c.cell_id for c in before], warnings=warnings)


def changed_cells(
    members: Members, name: str, *, current: Sequence[Cell], warnings: list[str]
) -> list[Cell]:
    """The whole new list of cells; what an entry with a known ``cellId`` leaves out stays."""
    known = {cell.cell_id: cell for cell in current}
    return _cells(members, name, known=known, taken=list(known), warnings=warnings)


def _cells(
    members: Members,
    name: str,
    *,
    known: dict[str, Cell],
    taken: list[str],
    warnings: list[str],
) -> list[Cell]:
    entries = members.objects(name, limit=MAX_CELLS) or []
    used: set[str] = set() if known else set(taken)
    found: list[Cell | None] = []
    for entry in entries:
        cell_id: str | None = entry.take("cellId", str)
        if cell_id is not None and CELL_ID.match(cell_id) is None:
            entry.fault("cellId", "must be 1 to 64 letters, digits, hyphens or underscores")
        elif cell_id is not None and cell_id in used:
            entry.fault("cellId", f"{cell_id!r} is used twice")
        elif cell_id is not None:
            used.add(cell_id)
        found.append(_cell(entry, cell_id, known.get(cell_id or "")))
        entry.ignore(*READ_ONLY)
        entry.warn_of_unknown(warnings)
    fresh = iter(free_ids([*taken, *used]))
    return [
        cell if cell.cell_id else msgspec.structs.replace(cell, cell_id=next(fresh))
        for cell in found
        if cell is not None
    ]


def _cell(entry: Members, cell_id: str | None, before: Cell | None) -> Cell:
    """The cell that ``entry`` makes of ``before``, with an empty id where it has none yet."""
    if before is None:
        cell_type: CellType = entry.require("cellType", CellType, "raw")
        source = entry.require("content", str, "")
        metadata: dict[str, Any] = entry.take("metadata", dict[str, Any], {})
    else:
        cell_type = entry.take("cellType", CellType, before.cell_type)
        source = entry.take("content", str, before.source)
        metadata = entry.take("metadata", dict[str, Any], before.metadata)
    tags: list[str] | None = entry.items("tags", str, limit=100)
    if tags is not None:
        metadata = {**metadata, "tags": tags}
    _check_metadata(entry, metadata)
    attachments: dict[str, Any] | None = entry.take(
        "attachments", dict[str, dict[str, Any]], None if before is None else before.attachments
    )
    if attachments and cell_type == "code":
        entry.fault("attachments", "a code cell has no attachments")
    cell = Cell(
        cell_id=cell_id or "",
        cell_type=cell_type,
        source=source,
        metadata=metadata,
        attachments=None if cell_type == "code" else attachments,
    )
    if before is not None and before.source == source and before.cell_type == cell_type:
        # The same code has put out the same.
        cell = msgspec.structs.replace(
            cell, outputs=before.outputs, execution_count=before.execution_count
        )
    return cell


def _check_metadata(entry: Members, metadata: dict[str, Any]) -> None:
    """What nbformat demands of a cell's metadata, or the file could not be downloaded again."""
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(
        isinstance(tag, str) and tag and "," not in tag for tag in tags
    ):
        entry.fault("tags", "must be texts without commas")
    elif len(set(tags)) != len(tags):
        entry.fault("tags", "must be different from one another")
    name = metadata.get("name", "x")
    if not isinstance(name, str) or not name:
        entry.fault("metadata", "its 'name' must be a text that is not empty")
    for flag in ("collapsed", "deletable", "editable"):
        if not isinstance(metadata.get(flag, False), bool):
            entry.fault("metadata", f"its {flag!r} must be true or false")
    for part in ("jupyter", "execution"):
        if not isinstance(metadata.get(part, {}), dict):
            entry.fault("metadata", f"its {part!r} must be an object")
