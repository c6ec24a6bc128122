"""The outputs of a cell, gathered as messages arrive, in bounded memory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

OUTPUT_MESSAGES: Final = frozenset({"stream", "display_data", "execute_result", "error"})

MAX_OUTPUTS: Final = 1000
"""How many outputs of a cell are kept: each is a file and a line of an event, however small."""

_MAX_ERROR_NAME = 200
_MAX_ERROR_VALUE = 10_000
_MAX_TRACEBACK_LINES = 200
_MAX_TRACEBACK_CHARACTERS = 100_000


class ErrorText(msgspec.Struct, frozen=True):
    """An error as a kernel tells it, capped."""

    name: str
    value: str
    traceback: list[str]


def error_text(content: Mapping[str, Any]) -> ErrorText:
    """Name, value and traceback of an error's content, each cut to a sane length."""
    frames = content.get("traceback") or []
    lines: list[str] = []
    left = _MAX_TRACEBACK_CHARACTERS
    # The end of a traceback tells most.
    for entry in reversed(frames[-_MAX_TRACEBACK_LINES:]):
        line = clean(str(entry))[-left:]
        lines.append(line)
        left -= len(line)
        if left <= 0:
            break
    return ErrorText(
        clean(str(content.get("ename") or "Error"))[:_MAX_ERROR_NAME],
        clean(str(content.get("evalue") or ""))[:_MAX_ERROR_VALUE],
        lines[::-1],
    )


def clean(text: str) -> str:
    """The text as any store can hold it: no NUL, no lone surrogate."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def to_json(value: Any) -> bytes:
    """JSON as UTF-8; NaN becomes null, a lone surrogate a replacement character."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, msgspec.MsgspecError):
        # The encoder stops at a lone surrogate; the standard library's writes NaN as it is.
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return msgspec.json.encode(json.loads(text, parse_constant=lambda _: None))


class _Stream:
    """Text of one stream: what a terminal would show after each carriage return."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 0
        self._done = io.StringIO()
        self._line: list[str] = []

    def add(self, text: str) -> int:
        """Append and return the growth in bytes (negative when a line was redrawn)."""
        before = self.size
        if "\r" in text or (self._line and self._line[-1].endswith("\r")):
            line = "".join(self._line)
            self.size -= _size(line)
            self._line.clear()
            text = _redraw(line + text)
        self.size += _size(text)
        cut = text.rfind("\n") + 1
        if cut:
            self._done.writelines(self._line)
            self._line.clear()
            self._done.write(text[:cut])
        if cut < len(text):
            self._line.append(text[cut:])
            if len(self._line) > 1000:
                self._line = ["".join(self._line)]
        return self.size - before

    def text(self) -> str:
        return self._done.getvalue() + "".join(self._line)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _redraw(text: str) -> str:
    # Linear in the length; a regular expression over `.*\r` is quadratic on long lines.
    lines = text.split("\n")
    for at, line in enumerate(lines):
        shown = line.rstrip("\r")
        start = shown.rfind("\r") + 1
        if start:
            lines[at] = line[start:]
    return "\n".join(lines)


class OutputCollector:
    """Outputs of one cell, at most `max_bytes` and `MAX_OUTPUTS` of them.

    With `keep` false they are only counted.

    Streams of one name are one output until another kind of output comes between. Sizes are in
    bytes: of the text for streams, of the JSON for the rest. An error is always kept.
    """

    def __init__(self, max_bytes: int, *, keep: bool = True) -> None:
        self.truncated = False
        self.output_bytes = 0
        self.output_count = 0
        self._max = max_bytes
        self._keep = keep
        self._kept = 0
        self._outputs: list[_Stream | bytes] = []
        self._streams: dict[str, _Stream] = {}
        self._displays: dict[str, list[int]] = {}
        self._clear_next = False

    @property
    def has_displays(self) -> bool:
        """Whether a later cell may still change an output."""
        return bool(self._displays)

    def add(self, message: Mapping[str, Any]) -> None:
        """Take one of `OUTPUT_MESSAGES`."""
        if self._clear_next:
            self._reset()
        kind = message["msg_type"]
        content = message["content"]
        if kind == "stream":
            self._add_stream(str(content.get("name", "stdout")), str(content.get("text", "")))
            return
        self._streams.clear()
        if kind == "error":
            told = error_text(content)
            output: dict[str, Any] = {
                "output_type": "error",
                "ename": told.name,
                "evalue": told.value,
                "traceback": told.traceback,
            }
        else:
            output = _display(kind, content)
        encoded = to_json(output)
        self.output_count += 1
        self.output_bytes += len(encoded)
        if not self._keep:
            return
        if kind != "error" and (self._kept + len(encoded) > self._max or self._is_full()):
            self.truncated = True
            return
        self._kept += len(encoded)
        display_id = _display_id(content)
        if display_id is not None:
            self._displays.setdefault(display_id, []).append(len(self._outputs))
        self._outputs.append(encoded)

    def update(self, message: Mapping[str, Any]) -> bool:
        """Take an `update_display_data`; True when an output of this cell changed."""
        content = message["content"]
        at = self._displays.get(_display_id(content) or "", [])
        if not at:
            return False
        for index in at:
            old = self._outputs[index]
            if isinstance(old, _Stream):
                continue
            output = msgspec.json.decode(old)
            output["data"] = content.get("data", {})
            output["metadata"] = content.get("metadata", {})
            encoded = to_json(output)
            growth = len(encoded) - len(old)
            self.output_bytes += growth
            if self._kept + growth > self._max:
                self.truncated = True
                continue
            self._kept += growth
            self._outputs[index] = encoded
        return True

    def clear(self, *, wait: bool) -> None:
        """Take a `clear_output`: at once, or when the next output comes."""
        if wait:
            self._clear_next = True
        else:
            self._reset()

    def drop_error(self) -> None:
        """Forget the last output when it is an error."""
        if self._outputs:
            last = self._outputs[-1]
            if isinstance(last, bytes) and msgspec.json.decode(last)["output_type"] == "error":
                self._outputs.pop()
                self._kept -= len(last)
                self.output_bytes -= len(last)
                self.output_count -= 1

    def outputs(self) -> list[bytes]:
        """Each kept output as the JSON of one nbformat 4 output."""
        return [
            output
            if isinstance(output, bytes)
            else to_json({"output_type": "stream", "name": output.name, "text": output.text()})
            for output in self._outputs
        ]

    def _add_stream(self, name: str, text: str) -> None:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream(name)
            self.output_count += 1
            self.truncated |= self._keep and self._is_full()
            if self._keep and not self.truncated:
                self._outputs.append(stream)
        size = _size(text)
        if not self._keep or self.truncated:
            # Once cut, a stream stays cut: text after a gap would read as if nothing were lost.
            self.output_bytes += size
            return
        room = max(self._max - self._kept, 0)
        if size > room:
            self.truncated = True
            self.output_bytes += size - room
            text = text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
        growth = stream.add(text)
        self._kept += growth
        self.output_bytes += growth

    def _is_full(self) -> bool:
        return len(self._outputs) >= MAX_OUTPUTS

    def _reset(self) -> None:
        self._outputs.clear()
        self._streams.clear()
        self._displays.clear()
        self._kept = self.output_bytes = self.output_count = 0
        # What was dropped would have been cleared as well.
        self.truncated = self._clear_next = False


def _display(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    output: dict[str, Any] = {
        "output_type": kind,
        "data": content.get("data", {}),
        "metadata": content.get("metadata", {}),
    }
    if kind == "execute_result":
        output["execution_count"] = content.get("execution_count")
    return output


def _display_id(content: Mapping[str, Any]) -> str | None:
    transient = content.get("transient") or {}
    display_id = transient.get("display_id")
    return None if display_id is None else str(display_id)
