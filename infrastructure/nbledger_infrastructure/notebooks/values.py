"""Values of a notebook file that JSON or the store cannot hold, and what is put in their place."""

import math
from typing import Any

from nbledger_domain.words import counted
from nbledger_infrastructure.notebooks.notes import Notes

MAX_DEPTH = 90
"""Deeper metadata is cut: too much that reads it later works recursively."""

MAX_OUTPUT_DEPTH = 400
"""Outputs are kept as they are, and only have to be read as JSON."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HALVES = dict.fromkeys(range(0xD800, 0xE000), REPLACEMENT)


def _are_fine_numbers(values: list[Any]) -> bool:
    """Whether nothing in a list needs a closer look: most long ones hold the data of charts."""
    kinds = set(map(type, values))
    if kinds <= {int, bool}:
        return True
    try:
        return kinds <= {int, bool, float} and all(map(math.isfinite, values))
    except OverflowError:  # an integer beyond every double
        return False


class Cleaning:
    """Replaces what cannot be kept, in place, and counts it by kind.

    NaN and the infinities become null, half of a surrogate pair the replacement character, what is
    nested too deeply null; and NUL characters the replacement character where ``nul`` is false.
    """

    def __init__(self, *, depth: int = MAX_DEPTH, nul: bool = False) -> None:
        self._depth = depth
        self._nul = nul
        self._numbers = self._halves = self._nuls = self._deep = 0

    def clean(self, value: Any, depth: int = 0) -> Any:
        """``value``, or what stands in for it."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float) and not math.isfinite(value):
            self._numbers += 1
            return None
        if isinstance(value, (dict, list)):
            if depth == self._depth:
                self._deep += 1
                return None
            self._members(value, depth + 1)
        return value

    def report(self, where: str, notes: Notes) -> None:
        """Warn of what was replaced in ``where``."""
        if self._numbers:
            told = counted(self._numbers, "number")
            notes.warn(f"{where}: {told} that JSON does not know (NaN, Infinity) became null")
        if self._halves:
            told = counted(self._halves, "text")
            notes.warn(f"{where}: half of a surrogate pair became U+FFFD in {told}")
        if self._nuls:
            told = counted(self._nuls, "text")
            notes.warn(f"{where}: NUL characters became U+FFFD in {told}")
        if self._deep:
            told = counted(self._deep, "value")
            notes.warn(f"{where}: {told} nested more than {self._depth} deep became null")

    def _members(self, value: dict[str, Any] | list[Any], depth: int) -> None:
        if isinstance(value, dict):
            for name in list(value):
                key = name if name.isascii() and "\0" not in name else self._text(name)
                if key == name:
                    value[name] = self.clean(value[name], depth)
                else:
                    value[key] = self.clean(value.pop(name), depth)
        elif not _are_fine_numbers(value):
            for place, item in enumerate(value):
                if isinstance(item, (str, float, dict, list)):
                    value[place] = self.clean(item, depth)

    def _text(self, text: str) -> str:
        if not self._nul and "\0" in text:
            self._nuls += 1
            text = text.replace("\0", REPLACEMENT)
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            self._halves += 1
            return text.translate(_HALVES)
        return text
