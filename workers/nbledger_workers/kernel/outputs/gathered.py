"""One output of a cell as it is gathered: text of a stream, or what is shown at once."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from nbledger_domain.not_kept import NotKept
from nbledger_domain.output_digest import block
from nbledger_workers.kernel.outputs.encoding import to_json
from nbledger_workers.kernel.outputs.forms import forms
from nbledger_workers.kernel.outputs.terminal import Lines

PART_BYTES: Final = 1 << 20
"""Longer text of a stream goes on its way in parts of about this size."""


class TextOutput:
    """One output of text. The current line may still change; what is settled is only kept."""

    def __init__(self, name: str, ordinal: int, *, kept: bool) -> None:
        self.name = name
        self.ordinal = ordinal
        self.kept = kept
        self.cut = False
        self.gap = NotKept(0, 0)
        self.size = 0
        self.parts_taken = 0
        self.lines = Lines()
        self._digest = hashlib.sha256()
        self._text = bytearray()

    def settle(self, text: str, room: int) -> int:
        """Add text that changes no more, at most `room` bytes of it; returns how many."""
        content = text.encode("utf-8", "replace")
        self._digest.update(content)
        self.size += len(content)
        if not self.kept or self.cut:
            return 0
        if len(content) > room:
            self.cut = True
            content = fitting(content, room)
        self._text += content
        return len(content)

    def current(self) -> bytes:
        """The line that may still change."""
        return self.lines.current().encode("utf-8", "replace")

    @property
    def waiting(self) -> int:
        """Bytes of parts that can be taken."""
        return len(self._text) - len(self._text) % PART_BYTES

    def take_part(self) -> bytes | None:
        """The next part that can be taken; it is no longer in `encoded` then."""
        if len(self._text) < PART_BYTES:
            return None
        part = fitting(bytes(self._text[: PART_BYTES + 4]), PART_BYTES)
        del self._text[: len(part)]
        self.parts_taken += 1
        return part

    def encoded(self, room: int) -> bytes:
        """The output's JSON, without the parts that were taken."""
        line = b"" if self.cut else fitting(self.current(), room)
        text = (bytes(self._text) + line).decode("utf-8")
        output: dict[str, Any] = {"output_type": "stream", "name": self.name, "text": text}
        if self.parts_taken:
            output["parts"] = self.ordinal
        return to_json(output | gap_of(self))

    def block(self) -> bytes:
        """What it adds to the digest of the cell's outputs."""
        digest, line = self._digest.copy(), self.current()
        digest.update(line)
        form = ("text/plain", digest.hexdigest(), self.size + len(line))
        return block("stream", [form], stream=self.name)


class ShownOutput:
    """A display, result or error. `encoded` is its JSON as it is kept, `kept_size` its bytes."""

    def __init__(self, output: dict[str, Any], display_id: str | None = None) -> None:
        self.display_id = display_id
        self.output_type: str = output["output_type"]
        self.gap = NotKept(0, 0)
        self.encoded = self.set(output)
        self.kept_size = self.size

    def set(self, output: dict[str, Any]) -> bytes:
        """Note size and digest of what it is now; returns the JSON."""
        encoded = to_json(output)
        try:
            self._measure(output)
        except (UnicodeEncodeError, TypeError, ValueError, msgspec.MsgspecError):
            self._measure(msgspec.json.decode(encoded))
        return encoded

    def _measure(self, output: dict[str, Any]) -> None:
        found = forms(output)
        told = [(kind, hashlib.sha256(each).hexdigest(), len(each)) for kind, each in found]
        self._block = block(self.output_type, told, metadata=output.get("metadata"))
        self.size = sum(len(each) for _, each in found)

    def block(self) -> bytes:
        """What it adds to the digest of the cell's outputs."""
        return self._block


def fitting(content: bytes, room: int) -> bytes:
    """As much of UTF-8 text as fits."""
    if len(content) <= room:
        return content
    while room > 0 and content[room] & 0xC0 == 0x80:
        room -= 1
    return content[:room]


def gap_of(output: TextOutput | ShownOutput) -> dict[str, Any]:
    """The member that tells what was dropped in front of an output."""
    return {"notKeptBefore": msgspec.to_builtins(output.gap)} if output.gap else {}
