"""Outputs of a run as its report has them: whole up to a bound, with notes of what is beyond."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from nbledger_domain import not_kept
from nbledger_domain.not_kept import NotKept
from nbledger_domain.words import many
from nbledger_workers.kernel.outputs.forms import forms
from nbledger_workers.kernel.protocol import CellFinished, OutputPart, OutputsUpdated

MAX_BYTES: Final = 50_000_000
"""What of all outputs goes into a report; a browser could not show more."""


class LeftOut(msgspec.Struct, frozen=True):
    """What is too much for a report: whole outputs, bytes, and the ends of lines in text."""

    outputs: int
    bytes: int
    lines: int

    def __add__(self, other: "LeftOut") -> "LeftOut":
        return LeftOut(
            self.outputs + other.outputs, self.bytes + other.bytes, self.lines + other.lines
        )

    def __bool__(self) -> bool:
        return self.bytes > 0 or self.outputs > 0


_NOTHING: Final = LeftOut(0, 0, 0)


class ReportOutputs:
    """The outputs of all cells, by the place of the cell; at most ``MAX_BYTES`` of them."""

    def __init__(self) -> None:
        self._bytes = 0
        self._cells: dict[int, _Cell] = {}

    def put_part(self, part: OutputPart) -> None:
        """Take a piece of a long text."""
        text = self._cell(part.index).texts.setdefault(part.number, _Text())
        if text.left_out or not self._take(len(part.data)):
            text.left_out += LeftOut(0, len(part.data), part.data.count(b"\n"))
        else:
            text.parts.append(part.data)

    def put(self, message: CellFinished | OutputsUpdated) -> None:
        """Take the outputs of a cell in place of those that it had before."""
        cell = self._cell(message.index)
        self._bytes -= sum(len(each) for each in cell.outputs if isinstance(each, bytes))
        numbers = [msgspec.json.decode(each, type=_Head).parts for each in message.outputs]
        for number in cell.texts.keys() - set(numbers):
            # It was cleared.
            self._bytes -= sum(map(len, cell.texts.pop(number).parts))
        # What follows a gap in a text would read as if nothing were missing.
        cut = {number for number, text in cell.texts.items() if text.left_out}
        cell.outputs = [
            each if number not in cut and self._take(len(each)) else _measured(each)
            for number, each in zip(numbers, message.outputs, strict=True)
        ]
        if message.truncated:
            cell.came = NotKept(message.output_count, message.output_bytes)

    def outputs(self, place: int) -> list[dict[str, Any]]:
        """The outputs of a cell as nbformat has them, with notes where there were more."""
        cell = self._cells.get(place)
        if cell is None:
            return []
        made: list[dict[str, Any]] = []
        left_out = _NOTHING
        kept, gaps = NotKept(0, 0), []
        for each in cell.outputs:
            output = msgspec.json.decode(each) if isinstance(each, bytes) else each.head
            gap = output.pop("notKeptBefore", None)
            text = cell.texts.get(output.pop("parts", None))
            gaps.append(None if gap is None else msgspec.convert(gap, NotKept))
            kept = NotKept(kept.outputs + 1, kept.bytes + _size(each, output, text))
            now = _left_out(each, text)
            shown = isinstance(each, bytes) or (text is not None and text.parts)
            if left_out and (gap or shown):
                made.append(_note(left_out))
                left_out = _NOTHING
            if gaps[-1]:
                made.append(not_kept.note(gaps[-1]))
            if shown:
                made.append(_whole(output, text))
            left_out += now
        if left_out:
            made.append(_note(left_out))
        if cell.came and (rest := not_kept.after_all(cell.came, kept, gaps)):
            made = _before_error(made, not_kept.note(rest))
        return made

    def _cell(self, place: int) -> "_Cell":
        return self._cells.setdefault(place, _Cell())

    def _take(self, size: int) -> bool:
        if self._bytes + size > MAX_BYTES:
            return False
        self._bytes += size
        return True


class _Head(msgspec.Struct):
    parts: int | None = None


class _Measured(msgspec.Struct, frozen=True):
    """An output that is left out: its members but for its content, and how large it is."""

    head: dict[str, Any]
    size: int
    lines: int


class _Text:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.left_out = _NOTHING


class _Cell:
    def __init__(self) -> None:
        self.texts: dict[int | None, _Text] = {}
        self.outputs: list[bytes | _Measured] = []
        self.came = NotKept(0, 0)
        """What came in all, where not all of it is kept."""


def _measured(encoded: bytes) -> _Measured:
    output: dict[str, Any] = msgspec.json.decode(encoded)
    size = sum(len(content) for _, content in forms(output))
    text = output.pop("text", "")
    for content in ("data", "traceback"):
        output.pop(content, None)
    return _Measured(output, size, text.count("\n"))


def _size(each: bytes | _Measured, output: dict[str, Any], text: _Text | None) -> int:
    """Bytes of an output that is kept, whether the report has it or not."""
    end = each.size if isinstance(each, _Measured) else sum(len(form) for _, form in forms(output))
    if text is None:
        return end
    return end + text.left_out.bytes + sum(map(len, text.parts))


def _left_out(each: bytes | _Measured, text: _Text | None) -> LeftOut:
    before = _NOTHING if text is None else text.left_out
    if isinstance(each, _Measured):
        whole = text is None or not text.parts
        return before + LeftOut(int(whole), each.size, each.lines)
    return before


def _whole(output: dict[str, Any], text: _Text | None) -> dict[str, Any]:
    if text is None:
        return output
    beginning = b"".join(text.parts).decode("utf-8", "replace")
    return {**output, "text": beginning + output.get("text", "")}


def _note(left_out: LeftOut) -> dict[str, Any]:
    size = many(left_out.bytes, "byte")
    if left_out.lines:
        size += f", {many(left_out.lines, 'line')}"
    what = f"{many(left_out.outputs, 'output')} ({size})" if left_out.outputs else size
    text = f"[{what} left out here: they are too large for a report. The results have them.]"
    return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}


def _before_error(made: Sequence[dict[str, Any]], note: dict[str, Any]) -> list[dict[str, Any]]:
    """With the note at the end, but for the error that a cell ends with."""
    if made and made[-1]["output_type"] == "error":
        return [*made[:-1], note, made[-1]]
    return [*made, note]
