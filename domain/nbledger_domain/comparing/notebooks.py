"""Two versions of a notebook, cell by cell: cells are the same where their ids are."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from nbledger_domain.comparing.operations import (
    Effort,
    Operation,
    of_objects,
    of_texts,
    opcodes,
    replaced,
)

CellChange = Literal["added", "removed", "changed", "moved", "unchanged"]
Part = Literal["type", "source", "metadata", "attachments"]

_CODE: Final[Mapping[str, Any]] = {"execution_count": None, "outputs": []}
"""What nbformat wants of a code cell; outputs are no part of a version."""


class ComparedCell(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared of a cell."""

    cell_id: str
    cell_type: str
    source: str
    metadata: dict[str, Any]
    attachments: dict[str, Any] | None = None

    def nbformat(self) -> dict[str, Any]:
        """The cell as a notebook file has it."""
        found: dict[str, Any] = {
            "id": self.cell_id,
            "cell_type": self.cell_type,
            "metadata": self.metadata,
            "source": self.source,
        }
        if self.attachments is not None:
            found["attachments"] = self.attachments
        return {**found, **_CODE} if self.cell_type == "code" else found


class CellComparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A cell in both versions, or in one: its index in each, from 0, and what of it is otherwise.

    One that ``moved`` is among others than before; its ``parts`` may be otherwise as well. ``diff``
    is between both, in the form of nbdime.
    """

    cell_id: str
    change: CellChange
    cell_type: str
    before: int | None = None
    after: int | None = None
    parts: list[Part] = []
    diff: list[Operation] = []


class CellsComparison(msgspec.Struct, frozen=True):
    """All cells, in the order of the later version, those removed where they were."""

    cells: list[CellComparison]
    diff: list[Operation]
    """Of the list of cells as a notebook file has it, in the form of nbdime."""


def compare_cells(before: Sequence[ComparedCell], after: Sequence[ComparedCell]) -> CellsComparison:
    """What has become of the cells."""
    aligned = opcodes(*([_key(cell) for cell in cells] for cells in (before, after)))
    old = {cell.cell_id: (index, cell) for index, cell in enumerate(before)}
    kept = {cell.cell_id for cell in after}
    effort = Effort()
    told: list[CellComparison] = []
    diff: list[Operation] = []
    for kind, low, high, begin, end in aligned:
        if kind == "equal":
            for offset in range(high - low):
                pair = before[low + offset], after[begin + offset]
                comparison = _pair(*pair, (low + offset, begin + offset), effort, moved=False)
                told.append(comparison)
                if comparison.diff:
                    patch = {"op": "patch", "key": low + offset, "diff": comparison.diff}
                    diff.append(patch)
            continue
        gone = [(index, before[index]) for index in range(low, high)]
        told += [_alone(cell, "removed", index) for index, cell in gone if cell.cell_id not in kept]
        for index in range(begin, end):
            cell = after[index]
            if cell.cell_id in old:
                was_at, was = old[cell.cell_id]
                told.append(_pair(was, cell, (was_at, index), effort, moved=True))
            else:
                told.append(_alone(cell, "added", index))
        diff += replaced(low, high - low, [cell.nbformat() for cell in after[begin:end]])
    return CellsComparison(told, diff)


def _key(cell: ComparedCell) -> tuple[str, str]:
    """A cell of another type has other members, so it takes the place of the one before."""
    return cell.cell_id, cell.cell_type


def _alone(cell: ComparedCell, change: CellChange, index: int) -> CellComparison:
    return CellComparison(
        cell_id=cell.cell_id,
        change=change,
        cell_type=cell.cell_type,
        before=index if change == "removed" else None,
        after=index if change == "added" else None,
    )


def _pair(
    old: ComparedCell, new: ComparedCell, places: tuple[int, int], effort: Effort, *, moved: bool
) -> CellComparison:
    diff = _diff(old, new, effort)
    parts: list[Part] = [part for part in _PARTS if any(each["key"] == part for each in diff)]
    if old.cell_type != new.cell_type:
        parts.insert(0, "type")
    # Where the type alone is otherwise, it may stand where it stood.
    moved = moved and old.cell_type == new.cell_type
    return CellComparison(
        cell_id=new.cell_id,
        change="moved" if moved else "changed" if parts else "unchanged",
        cell_type=new.cell_type,
        before=places[0],
        after=places[1],
        parts=parts,
        diff=diff,
    )


_PARTS: Final[tuple[Part, ...]] = ("source", "metadata", "attachments")


def _diff(old: ComparedCell, new: ComparedCell, effort: Effort) -> list[Operation]:
    """In the order of the keys."""
    told = [_members(cell) for cell in (old, new)]
    found = of_objects(*told)
    if old.source != new.source:
        inner = of_texts(old.source, new.source, effort)
        found.append({"op": "patch", "key": "source", "diff": inner})
    return sorted(found, key=lambda each: str(each["key"]))


def _members(cell: ComparedCell) -> dict[str, Any]:
    members: dict[str, Any] = {"metadata": cell.metadata}
    if cell.attachments is not None:
        members["attachments"] = cell.attachments
    return members


class MemberChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value by its JSON pointer; no ``before`` where it came, no ``after`` where it went."""

    path: str
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET


def compare_members(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[MemberChange]:
    """The innermost members of objects that are otherwise; lists are compared as a whole."""
    return _flat("", before, of_objects(before, after), after)


def _flat(
    at: str, before: Mapping[str, Any], diff: Sequence[Operation], after: Mapping[str, Any]
) -> list[MemberChange]:
    found: list[MemberChange] = []
    for each in diff:
        key = each["key"]
        path = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
        old, new = before.get(key, msgspec.UNSET), after.get(key, msgspec.UNSET)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _flat(path, old, each["diff"], new)
        else:
            found.append(MemberChange(path, old, new))
    return found
