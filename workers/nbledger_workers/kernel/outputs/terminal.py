r"""Text of a stream as a terminal would show it: `\r`, `\b` and erasing act on the current line.

A progress bar that redraws its line a million times leaves one line, and costs time for what it
writes and memory for one line.
"""

from __future__ import annotations

import re
from typing import Final

# What makes a line differ from the characters that were sent for it.
_EDITS: Final = re.compile(r"[\r\b]|\x1b\[[0-9;]*[KCDG]")
_TOKENS: Final = re.compile(
    r"(?P<control>[\r\b])|\x1b\[(?P<number>[0-9;]*)(?P<edit>[KCDG])|(?P<style>\x1b\[[0-9;:]*m)"
    r"|(?P<text>[^\r\b\x1b]+)|(?P<other>\x1b)"
)
_UNFINISHED: Final = re.compile(r"\x1b(\[[0-9;:]*)?\Z")
_RESET: Final = "\x1b[0m"
_RESETS: Final = frozenset({"\x1b[m", _RESET})

#: A line is settled when it is longer: no `\r` reaches back before that.
MAX_LINE_CHARACTERS: Final = 65_536
_MAX_STYLE_CHARACTERS: Final = 100
_MAX_SEQUENCE: Final = 32
# Characters that may wait unread behind a line that is being edited.
_MAX_UNREAD: Final = 16_384


class Lines:
    """The text of one stream: settled lines leave it, the current line may still change."""

    def __init__(self) -> None:
        self._line = _Line()

    def add(self, text: str) -> str:
        """Take text and return what of the whole can change no more."""
        cut = text.rfind("\n") + 1
        settled = ""
        if cut:
            if self._line.is_edited_with(text[:cut]):
                first, *others = text[: cut - 1].split("\n")
                self._line.write(first)
                settled = "\n".join([self.take(), *map(_shown, others), ""])
            else:
                settled = self.take() + text[:cut]
        if cut < len(text):
            self._line.write(text[cut:])
            if len(self._line) > MAX_LINE_CHARACTERS:
                settled += self.take()
        return settled

    def current(self) -> str:
        """The line that may still change."""
        return self._line.shown()

    def take(self) -> str:
        """Settle the current line as it is."""
        text = self._line.shown()
        self._line = _Line()
        return text


def _shown(line: str) -> str:
    """A whole line as it is shown."""
    line = line.rstrip("\r")
    if _EDITS.search(line) is None:
        return line
    editor = _Line()
    editor.write(line)
    return editor.shown()


class _Line:
    """One line under a cursor. Until something edits it, it is the text that came."""

    def __init__(self) -> None:
        self._unread: list[str] = []
        self._unread_length = 0
        self._tail = ""
        # Each with the style that holds for it; empty: as at the line's beginning.
        self._cells: list[tuple[str, str]] = []
        self._cursor = 0
        self._style = ""
        self._edited = False

    def __len__(self) -> int:
        return len(self._cells) + self._unread_length

    def is_edited_with(self, text: str) -> bool:
        """Whether the line, with this text after it, is more than the text that came."""
        if self._edited or _EDITS.search(text) is not None:
            return True
        # An escape sequence may come in pieces.
        tail = self._tail
        return "\x1b" in tail and _EDITS.search(tail + text[:_MAX_SEQUENCE]) is not None

    def write(self, text: str) -> None:
        """Take text without a line feed."""
        self._edited = self.is_edited_with(text)
        self._tail = (self._tail + text[-_MAX_SEQUENCE:])[-_MAX_SEQUENCE:]
        self._unread.append(text)
        self._unread_length += len(text)
        if self._edited and self._unread_length > _MAX_UNREAD:
            self._read()

    def shown(self) -> str:
        """The line as it is now."""
        if not self._edited:
            return "".join(self._unread)
        self._read()
        pieces = []
        style = ""
        for wanted, character in self._cells:
            if wanted != style:
                pieces.append(_change(style, wanted))
                style = wanted
            pieces.append(character)
        if style != self._style:
            pieces.append(_change(style, self._style))
        return "".join((*pieces, *self._unread))

    def _read(self) -> None:
        text = "".join(self._unread)
        unfinished = _UNFINISHED.search(text[-_MAX_SEQUENCE:])
        rest = "" if unfinished is None else unfinished.group()
        self._unread = [rest] if rest else []
        self._unread_length = len(rest)
        for token in _TOKENS.finditer(text, 0, len(text) - len(rest)):
            kind = token.lastgroup
            if kind in ("text", "other"):
                self._put(token.group())
            elif kind == "style":
                style = token.group()
                if style in _RESETS:
                    self._style = _RESET
                else:
                    self._style = (self._style + style)[-_MAX_STYLE_CHARACTERS:]
            elif token["control"] == "\r":
                self._cursor = 0
            elif token["control"] == "\b":
                self._cursor = max(self._cursor - 1, 0)
            else:
                self._edit(token["edit"], token["number"])

    def _put(self, text: str) -> None:
        gap = self._cursor - len(self._cells)
        if gap > 0:
            self._cells += [("", " ")] * gap
        end = self._cursor + len(text)
        self._cells[self._cursor : end] = [(self._style, character) for character in text]
        self._cursor = end

    def _edit(self, what: str, number: str) -> None:
        digits = number.partition(";")[0][:6]
        count = min(int(digits or "0"), MAX_LINE_CHARACTERS)
        if what == "C":
            self._cursor = min(self._cursor + max(count, 1), MAX_LINE_CHARACTERS)
        elif what == "D":
            self._cursor = max(self._cursor - max(count, 1), 0)
        elif what == "G":
            self._cursor = max(count, 1) - 1
        elif count == 0:
            del self._cells[self._cursor :]
        elif count == 1:
            blanks = min(self._cursor + 1, len(self._cells))
            self._cells[:blanks] = [("", " ")] * blanks
        elif count == 2:
            self._cells.clear()


def _change(style: str, wanted: str) -> str:
    """What changes the style; there is no way back to how the line began but a reset."""
    if not wanted:
        return _RESET
    return wanted if not style or wanted.startswith(_RESET) else _RESET + wanted
