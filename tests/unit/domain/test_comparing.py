"""Differences lead from one version to the other, whatever they hold."""

from __future__ import annotations

import random

from support.nbdime_patches import patched

from nbledger_domain.comparing import operations
from nbledger_domain.comparing.notebooks import (
    ComparedCell,
    MemberChange,
    compare_cells,
    compare_members,
)

ENDS = ("\n", "\r\n", "\u2028", "\x0b", "", "\r", "\n\n")
LINES = ("a = 1", "b = 2", "print(a)", "x", "", "a long line of its own", "\U0001f600")
METADATA: tuple[dict[str, object], ...] = (
    {},
    {"tags": ["a"]},
    {"tags": ["b", "a"], "x": {"y": 1}},
    {"x": {"y": 2, "z": [1, [2], True]}},
    {"x": {"y": 2, "z": [1, [2], 1]}},
)


def some_text(dice: random.Random) -> str:
    return "".join(dice.choice(LINES) + dice.choice(ENDS) for _ in range(dice.randrange(7)))


def some_cell(dice: random.Random, cell_id: str) -> ComparedCell:
    return ComparedCell(
        cell_id=cell_id,
        cell_type=dice.choice(["code", "code", "markdown"]),
        source=some_text(dice),
        metadata=dict(dice.choice(METADATA)),
        attachments=dice.choice([None, None, {"i.png": {"image/png": "AA"}}]),
    )


def edited(dice: random.Random, cells: list[ComparedCell]) -> list[ComparedCell]:
    found = []
    for number, cell in enumerate(cells):
        kept = dice.random()
        if kept < 0.5:
            found.append(cell)
        elif kept < 0.85:
            found.append(some_cell(dice, cell.cell_id))
        if dice.random() < 0.2:
            found.append(some_cell(dice, f"new-{number}"))
    if dice.random() < 0.3:
        dice.shuffle(found)
    return found


def test_differences_lead_from_one_to_the_other() -> None:
    dice = random.Random(1)
    for _ in range(400):
        before = [some_cell(dice, f"cell-{number}") for number in range(dice.randrange(6))]
        after = edited(dice, before)
        compared = compare_cells(before, after)
        files = [[cell.nbformat() for cell in cells] for cells in (before, after)]
        assert patched(files[0], compared.diff) == files[1]
        assert bool(compared.diff) == (files[0] != files[1])
        told = {cell.cell_id: cell for cell in compared.cells}
        assert len(told) == len(compared.cells) == len({*map(_id, before), *map(_id, after)})
        assert [each.cell_id for each in compared.cells if each.after is not None] == [
            cell.cell_id for cell in after
        ]
        for cell in compared.cells:
            there = cell.before is not None, cell.after is not None
            assert there == (cell.change != "added", cell.change != "removed")
            if all(there):
                old, new = before[cell.before or 0], after[cell.after or 0]
                assert (cell.change == "unchanged") <= (old == new)
                assert ("source" in cell.parts) == (old.source != new.source)


def _id(cell: ComparedCell) -> str:
    return cell.cell_id


def test_long_texts_are_compared_at_their_ends() -> None:
    """Time does not grow with the square of the lines."""
    same = [f"line {number}\n" for number in range(operations.MOST_LINES)]
    before, after = "".join([*same, "old\n", "end\n"]), "".join([*same, "new\n", "end\n"])
    diff = operations.of_texts(before, after)
    assert patched(before, diff) == after
    assert [each["op"] for each in diff] == ["addrange", "removerange"]
    long = "x" * (operations.MOST_CHARACTERS + 1)
    assert operations.of_texts(long, long + "y") == [
        {"op": "addrange", "key": 0, "valuelist": [long + "y"]},
        {"op": "removerange", "key": 0, "length": 1},
    ]


def test_the_effort_for_a_notebook_is_bounded() -> None:
    """Lines of two letters take longest; after so many of them lines are replaced."""
    effort = operations.Effort(1_000)
    before, after = "ab" * 10 + "\n", "ba" * 10 + "\n"
    first = operations.of_texts(before, after, effort)
    assert [each["op"] for each in first] == ["patch"]
    assert effort.left == 1_000 - 21 * 21
    several = operations.of_texts(before * 3, after * 3, effort)
    assert [each["op"] for each in several] == ["patch", "addrange", "removerange"]
    assert patched(before * 3, several) == after * 3


def test_members_are_told_by_their_pointers() -> None:
    before = {"a/b": {"c": 1, "d": [1]}, "same": {"x": None}, "went": 0}
    after = {"a/b": {"c": True, "d": [1, 2]}, "same": {"x": None}, "came": {"y": 1}}
    assert compare_members(before, after) == [
        MemberChange("/a~1b/c", 1, True),
        MemberChange("/a~1b/d", [1], [1, 2]),
        MemberChange("/came", after=after["came"]),
        MemberChange("/went", before=0),
    ]
