"""Cells as clients write them."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from nbledger_domain.cells import Cell, CellType, free_ids
from nbledger_domain.vocabulary.cell_ids import CELL_ID, CELL_ID_PATTERN
from nbledger_http.requests.declared import FaultReport

_READ_ONLY = ("executionCount", "hasOutput", "lastExecuted", "executionStatus", "lastModified")
"""Members of a cell that answers carry and requests may send back."""

_ID_REASON = "must be 1 to 64 letters, digits, hyphens or underscores"


def _check_id(text: str) -> None:
    if CELL_ID.match(text) is None:
        raise ValueError(_ID_REASON)


CellId = Annotated[
    str, Meta(pattern=CELL_ID_PATTERN, extra={"reason": _ID_REASON, "check": _check_id})
]
Tags = Annotated[list[str], Meta(max_length=100)]


class NewCell(msgspec.Struct, rename="camel", kw_only=True):
    """A cell to make; without a cellId it gets the next free one."""

    READ_ONLY: ClassVar = _READ_ONLY

    cell_type: CellType
    content: str
    cell_id: CellId | None = None
    metadata: dict[str, Any] | None = None
    tags: Tags | None = None
    attachments: dict[str, dict[str, Any]] | None = None


class ChangedCell(msgspec.Struct, rename="camel", kw_only=True):
    """A cell of the new list; what an entry with a known cellId leaves out stays as it is."""

    READ_ONLY: ClassVar = _READ_ONLY

    cell_id: CellId | None = None
    cell_type: CellType | None = None
    content: str | None = None
    metadata: dict[str, Any] | None = None
    tags: Tags | None = None
    attachments: dict[str, dict[str, Any]] | None = None


def new_cells(
    asked: Sequence[NewCell], *, before: Sequence[Cell], report: FaultReport
) -> list[Cell]:
    """The first cells of a notebook, after those of its template."""
    taken = [cell.cell_id for cell in before]
    return _cells(asked, "/initialCells", known={}, taken=taken, report=report)


def changed_cells(
    asked: Sequence[ChangedCell], *, current: Sequence[Cell], report: FaultReport
) -> list[Cell]:
    """The whole new list of cells; what an entry with a known ``cellId`` leaves out stays."""
    known = {cell.cell_id: cell for cell in current}
    return _cells(asked, "/cells", known=known, taken=list(known), report=report)


def _cells(
    asked: Sequence[NewCell | ChangedCell],
    pointer: str,
    *,
    known: dict[str, Cell],
    taken: list[str],
    report: FaultReport,
) -> list[Cell]:
    used: set[str] = set() if known else set(taken)
    found: list[Cell] = []
    for index, entry in enumerate(asked):
        if entry.cell_id in used:
            report.fault(f"{pointer}/{index}/cellId", f"{entry.cell_id!r} is used twice")
        elif entry.cell_id is not None:
            used.add(entry.cell_id)
        before = known.get(entry.cell_id or "")
        found.append(_cell(entry, before, f"{pointer}/{index}", report))
    fresh = iter(free_ids([*taken, *used]))
    return [
        cell if cell.cell_id else msgspec.structs.replace(cell, cell_id=next(fresh))
        for cell in found
    ]


def _cell(
    entry: NewCell | ChangedCell, before: Cell | None, pointer: str, report: FaultReport
) -> Cell:
    """The cell that ``entry`` makes of ``before``, with an empty id where it has none yet."""
    if before is None:
        for name, value in (("cellType", entry.cell_type), ("content", entry.content)):
            if value is None:
                report.fault(f"{pointer}/{name}", "is required")
        before = Cell(cell_id=entry.cell_id or "", cell_type="raw", source="")
    cell_type = entry.cell_type or before.cell_type
    source = before.source if entry.content is None else entry.content
    metadata = before.metadata if entry.metadata is None else entry.metadata
    if entry.tags is not None:
        metadata = {**metadata, "tags": entry.tags}
    _check_metadata(metadata, pointer, report)
    attachments = before.attachments if entry.attachments is None else entry.attachments
    if attachments and cell_type == "code":
        report.fault(f"{pointer}/attachments", "a code cell has no attachments")
    # The same code has put out the same.
    same = before.source == source and before.cell_type == cell_type
    return Cell(
        cell_id=before.cell_id,
        cell_type=cell_type,
        source=source,
        metadata=metadata,
        attachments=None if cell_type == "code" else attachments,
        outputs=before.outputs if same else None,
        execution_count=before.execution_count if same else None,
    )


def _check_metadata(metadata: dict[str, Any], pointer: str, report: FaultReport) -> None:
    """What nbformat demands of a cell's metadata, or the file could not be downloaded again."""
    tags = metadata.get("tags", [])
    if report.tells_within(f"{pointer}/tags"):
        pass
    elif not isinstance(tags, list) or not all(
        isinstance(tag, str) and tag and "," not in tag for tag in tags
    ):
        report.fault(f"{pointer}/tags", "must be non-empty texts without commas")
    elif len(set(tags)) != len(tags):
        report.fault(f"{pointer}/tags", "must be different from one another")
    name = metadata.get("name", "x")
    if not isinstance(name, str) or not name:
        report.fault(f"{pointer}/metadata", "its 'name' must be a text that is not empty")
    for flag in ("collapsed", "deletable", "editable"):
        if not isinstance(metadata.get(flag, False), bool):
            report.fault(f"{pointer}/metadata", f"its {flag!r} must be true or false")
    for part in ("jupyter", "execution"):
        if not isinstance(metadata.get(part, {}), dict):
            report.fault(f"{pointer}/metadata", f"its {part!r} must be an object")
