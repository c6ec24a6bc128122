"""Differences of JSON values and of texts as operations, in the form that nbdime has specified.

A difference is a list of operations: of objects ``add``, ``remove``, ``replace`` and ``patch`` by
key; of lists and texts ``addrange``, ``removerange`` and ``patch`` by index in what was before, an
``addrange`` ahead of what else happens at its index. Texts are lists of lines, and lines are
patched by characters. See https://nbdime.readthedocs.io/en/latest/diffing.html.
"""

from collections.abc import Hashable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

import msgspec

Operation = dict[str, Any]

MOST_LINES: Final = 20_000
"""Of texts with more lines together the part that is not alike is replaced as a whole."""

MOST_CHARACTERS: Final = 1_000
"""Longer lines are replaced as a whole, not by their characters."""

MOST_EFFORT: Final = 10_000_000
"""Pairs of characters that are looked at; after these, lines are replaced as a whole."""

_ALIKE: Final = 0.5

_encode = msgspec.json.Encoder(order="deterministic").encode


class Effort:
    """What may still be spent on comparing lines by their characters: in pairs of them."""

    def __init__(self, left: int = MOST_EFFORT) -> None:
        self.left = left

    def covers(self, old: str, new: str) -> bool:
        """Whether these two may be compared; then they are counted."""
        cost = len(old) * len(new)
        if max(len(old), len(new)) > MOST_CHARACTERS or cost > self.left:
            return False
        self.left -= cost
        return True


def of_objects(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Operation]:
    """Between two objects of JSON, key by key."""
    found: list[Operation] = []
    for key in sorted({*before, *after}):
        if key not in after:
            found.append({"op": "remove", "key": key})
        elif key not in before:
            found.append({"op": "add", "key": key, "value": after[key]})
        elif (change := _of_values(key, before[key], after[key])) is not None:
            found.append(change)
    return found


def _of_values(key: str, before: Any, after: Any) -> Operation | None:
    if _encode(before) == _encode(after):
        return None
    if isinstance(before, dict) and isinstance(after, dict):
        return {"op": "patch", "key": key, "diff": of_objects(before, after)}
    if isinstance(before, list) and isinstance(after, list):
        return {"op": "patch", "key": key, "diff": _of_lists(before, after)}
    return {"op": "replace", "key": key, "value": after}


def _of_lists(before: Sequence[Any], after: Sequence[Any]) -> list[Operation]:
    found: list[Operation] = []
    same = [_encode(each) for each in before], [_encode(each) for each in after]
    for kind, low, high, begin, end in opcodes(*same):
        if kind != "equal":
            found += replaced(low, high - low, after[begin:end])
    return found


def of_texts(before: str, after: str, effort: Effort | None = None) -> list[Operation]:
    """Between two texts, line by line, and within lines that are alike."""
    effort = effort or Effort()
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    found: list[Operation] = []
    # A line that got another end, or none, is the line that it was.
    for kind, low, high, begin, end in opcodes(before.splitlines(), after.splitlines()):
        if kind != "equal":
            found += _of_blocks(low, old[low:high], new[begin:end], effort)
            continue
        for offset in range(high - low):
            ends = _ends(old[low + offset], new[begin + offset])
            if ends:
                found.append({"op": "patch", "key": low + offset, "diff": ends})
    return found


def _ends(old: str, new: str) -> list[Operation]:
    """Between lines that have no more than their ends apart."""
    if old == new:
        return []
    content = len(old.splitlines()[0])
    return replaced(content, len(old) - content, new[content:])


def _of_blocks(at: int, old: Sequence[str], new: Sequence[str], effort: Effort) -> list[Operation]:
    """What becomes of the lines from index ``at`` on, the first with the first and so on."""
    found: list[Operation] = []
    both = min(len(old), len(new))
    start = 0
    for index in range(both):
        if effort.covers(old[index], new[index]) and _alike(old[index], new[index]):
            found += replaced(at + start, index - start, new[start:index])
            found.append(_of_lines(at + index, old[index], new[index]))
            start = index + 1
    found += replaced(at + start, len(old) - start, new[start:])
    return found


def _alike(old: str, new: str) -> bool:
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    return matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE


def _of_lines(at: int, old: str, new: str) -> Operation:
    """What becomes of the line at index ``at``, by characters."""
    found: list[Operation] = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for kind, low, high, begin, end in matcher.get_opcodes():
        if kind != "equal":
            found += replaced(low, high - low, new[begin:end])
    return {"op": "patch", "key": at, "diff": found}


def replaced(at: int, length: int, values: Sequence[Any]) -> list[Operation]:
    """``values`` in place of so many from index ``at`` on."""
    found: list[Operation] = []
    if values:
        found.append({"op": "addrange", "key": at, "valuelist": values})
    if length:
        found.append({"op": "removerange", "key": at, "length": length})
    return found


def opcodes(
    old: Sequence[Hashable], new: Sequence[Hashable]
) -> list[tuple[str, int, int, int, int]]:
    """As ``SequenceMatcher`` has them; of very long sequences what is alike at both ends only."""
    if len(old) + len(new) <= MOST_LINES:
        return list(SequenceMatcher(None, old, new).get_opcodes())
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return [
        ("equal", 0, head, 0, head),
        ("replace", head, len(old) - tail, head, len(new) - tail),
        ("equal", len(old) - tail, len(old), len(new) - tail, len(new)),
    ]
