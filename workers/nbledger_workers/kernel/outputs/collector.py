"""The outputs of a cell, gathered as messages arrive, in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nbledger_domain.not_kept import NotKept
from nbledger_workers.kernel.outputs.budget import Budget
from nbledger_workers.kernel.outputs.encoding import to_json
from nbledger_workers.kernel.outputs.errors import ErrorText, error_text
from nbledger_workers.kernel.outputs.gathered import ShownOutput, TextOutput, gap_of

MAX_OUTPUTS: Final = 1000
"""How many outputs of a cell are kept: each is a file and a line of an event, however small."""

MAX_CHANGES: Final = 200
"""Changes between streams within a cell that are kept; streams of a name are joined beyond."""

_SLICE_CHARACTERS: Final = 1 << 20
_MORE_HELD: Final = 4096


class OutputCollector:
    """Outputs of one cell: at most `max_bytes` and `max_outputs` of them, within the `budget`.

    With `keep` false they are only counted. Text of one stream is one output where nothing stands
    between. After `MAX_CHANGES` from one stream to another it is one until another kind of output
    comes, and `joined` says so. What is dropped in front of an output that is kept is counted in
    its member `notKeptBefore`. Sizes are those of the forms of an output, in bytes, an image's
    after base64. An error is always kept.

    The digest is over everything that came, kept or not (`nbledger_domain.output_digest`).
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        max_outputs: int = MAX_OUTPUTS,
        budget: Budget | None = None,
        keep: bool = True,
    ) -> None:
        self._max = max_bytes
        self._max_outputs = max_outputs
        self._budget = Budget(max_bytes) if budget is None else budget
        self._keep = keep
        self._ordinal = 0
        self._taken = 0
        self._changed_from: int | None = None
        self._lost = False
        self._changes = 0
        self.joined = False
        self._begin()

    def _begin(self) -> None:
        self.output_count = 0
        self._truncated = False
        #: What the last two error outputs tell, also where they are not kept.
        self.errors: list[ErrorText] = []
        self._clear_next = False
        self._size = 0
        self._kept = 0
        self._outputs: list[TextOutput | ShownOutput] = []
        # Dropped since the last output that was kept.
        self._gap = NotKept(0, 0)
        self._open: dict[str, TextOutput] = {}
        # The stream that was written to last, where nothing has come since.
        self._last: TextOutput | None = None
        self._displays: dict[str, list[ShownOutput]] = {}
        self._digest = hashlib.sha256()
        # What may still change, and whatever came after it.
        self._held: deque[TextOutput | ShownOutput | bytes] = deque()

    @property
    def has_displays(self) -> bool:
        """Whether a later cell may still change an output."""
        return bool(self._displays)

    @property
    def output_bytes(self) -> int:
        """Bytes of all that came."""
        return self._size + sum(len(stream.current()) for stream in self._open.values())

    @property
    def truncated(self) -> bool:
        """Whether something that came is not kept, or something may not have come."""
        if self._lost:
            return True
        if self._truncated or not self._keep:
            return self._truncated
        lines = sum(len(stream.current()) for stream in self._open.values())
        return lines > self._room()

    @property
    def waiting(self) -> int:
        """Bytes of parts that `take_part` would return."""
        return sum(output.waiting for output in self._outputs if isinstance(output, TextOutput))

    def add(self, message: Mapping[str, Any]) -> None:
        """Take one of `OUTPUT_TYPES`."""
        if self._clear_next:
            self._reset()
        kind = message["msg_type"]
        content = message["content"]
        if kind == "stream":
            # There are two streams, whatever a message says.
            name = "stderr" if content.get("name") == "stderr" else "stdout"
            self._add_stream(name, str(content.get("text", "")))
            return
        self._close_streams()
        if kind == "error":
            told = error_text(content)
            self.errors = [*self.errors[-1:], told]
            output: dict[str, Any] = {
                "output_type": "error",
                "ename": told.name,
                "evalue": told.value,
                "traceback": told.traceback,
            }
            self._add_shown(ShownOutput(output))
        else:
            self._add_shown(ShownOutput(_display(kind, content), _display_id(content)))

    def update(self, message: Mapping[str, Any]) -> bool:
        """Take an `update_display_data`; True when an output of this cell changed."""
        content = message["content"]
        shown = self._displays.get(_display_id(content) or "", [])
        for each in shown:
            output = msgspec.json.decode(each.encoded)
            output |= _data(content)
            before = each.size
            encoded = each.set(output)
            self._size += each.size - before
            growth = each.size - each.kept_size
            if growth > self._room():
                self._truncated = True
                continue
            self._spend(growth)
            each.encoded, each.kept_size = encoded, each.size
            self._note(self._outputs.index(each))
        return bool(shown)

    def clear(self, *, wait: bool) -> None:
        """Take a `clear_output`: at once, or when the next output comes."""
        if wait:
            self._clear_next = True
        else:
            self._reset()

    def drop_error(self, told: ErrorText) -> None:
        """Forget the last output when it is this error: its name and value are the same."""
        if not self._outputs or not self.errors:
            return
        shown = self.errors[-1]
        if (shown.name, shown.value) != (told.name, told.value):
            return
        last = self._outputs[-1]
        if isinstance(last, ShownOutput) and last.output_type == "error" and self._held[-1] is last:
            self._outputs.pop()
            self._held.pop()
            self._spend(-last.kept_size)
            self._size -= last.size
            self.output_count -= 1
            self._note(len(self._outputs))

    def note_loss(self) -> None:
        """Flag the cell: something may not have come."""
        self._lost = True

    def close(self) -> None:
        """Nothing more comes but updates of displays."""
        self._close_streams()

    def take_part(self) -> tuple[int, bytes] | None:
        """A part of a stream's text that changes no more, with the number of the stream.

        Parts of a stream come in order. From then on `outputs` has what follows them, and the
        number as `parts`.
        """
        for output in self._outputs:
            if isinstance(output, TextOutput) and (part := output.take_part()) is not None:
                self._taken += len(part)
                return output.ordinal, part
        return None

    def outputs(self, first: int = 0) -> list[bytes]:
        """Each kept output, but for the `first` ones, as the JSON of one nbformat 4 output."""
        found = []
        room = self._room()
        for output in self._outputs[first:]:
            if isinstance(output, ShownOutput):
                gap = gap_of(output)
                # Before the member that every output begins with.
                head = to_json(gap)[:-1] + b"," if gap else b"{"
                found.append(head + output.encoded[1:])
                continue
            found.append(output.encoded(max(room, 0)))
            if self._open.get(output.name) is output:
                room -= len(output.current())
        return found

    def changes(self) -> int | None:
        """How many of the first outputs are as at the last call; None when nothing has changed."""
        first, self._changed_from = self._changed_from, None
        return first

    def digest(self) -> str:
        """The digest of all that came, in lower-case hexadecimal."""
        digest = self._digest.copy()
        for output in self._held:
            digest.update(output if isinstance(output, bytes) else output.block())
        return digest.hexdigest()

    def _add_shown(self, shown: ShownOutput) -> None:
        self.output_count += 1
        self._size += shown.size
        is_error = shown.output_type == "error"
        if not self._keep or (not is_error and (shown.size > self._room() or self._is_full())):
            self._truncated |= self._keep
            self._drop(1, shown.size)
            self._hold(shown.block())
            return
        self._hold(shown)
        self._spend(shown.size)
        self._note(len(self._outputs))
        if shown.display_id is not None:
            self._displays.setdefault(shown.display_id, []).append(shown)
        self._append(shown)

    def _add_stream(self, name: str, text: str) -> None:
        stream = self._open.get(name)
        if self._last is not None and self._last.name != name:
            stream = self._change(stream)
        if stream is None:
            self.output_count += 1
            self._ordinal += 1
            self._truncated |= self._keep and self._is_full()
            # Once cut, text stays cut: after a gap it would read as if nothing were lost.
            kept = self._keep and not self._is_full() and not self._is_cut()
            stream = self._open[name] = TextOutput(name, self._ordinal, kept=kept)
            self._hold(stream)
            if kept:
                self._append(stream)
            else:
                self._drop(1, 0)
        self._last = stream
        if stream.kept and not stream.cut:
            self._note(self._outputs.index(stream))
        for start in range(0, len(text), _SLICE_CHARACTERS):
            self._settle(stream, stream.lines.add(text[start : start + _SLICE_CHARACTERS]))

    def _change(self, stream: TextOutput | None) -> TextOutput | None:
        """The open stream that text goes on after another stream's; None where it begins anew."""
        self._changes += 1
        if self._changes <= MAX_CHANGES:
            self._close_streams()
            return None
        self.joined = True
        return stream

    def _settle(self, stream: TextOutput, text: str) -> None:
        before = stream.size
        spent = stream.settle(text, max(self._room(), 0))
        self._spend(spent)
        self._size += stream.size - before
        self._drop(0, stream.size - before - spent)
        self._truncated |= self._keep and (stream.cut or not stream.kept)

    def _append(self, output: TextOutput | ShownOutput) -> None:
        output.gap, self._gap = self._gap, NotKept(0, 0)
        self._outputs.append(output)

    def _drop(self, outputs: int, size: int) -> None:
        self._gap = NotKept(self._gap.outputs + outputs, self._gap.bytes + size)

    def _close_streams(self) -> None:
        for stream in self._open.values():
            self._settle(stream, stream.lines.take())
        self._open.clear()
        self._last = None

    def _is_cut(self) -> bool:
        return any(isinstance(output, TextOutput) and output.cut for output in self._outputs)

    def _is_full(self) -> bool:
        return len(self._outputs) >= self._max_outputs

    def _room(self) -> int:
        return min(self._max - self._kept, self._budget.left)

    def _spend(self, size: int) -> None:
        self._kept += size
        self._budget.left -= size

    def _note(self, index: int) -> None:
        first = self._changed_from
        self._changed_from = index if first is None else min(first, index)

    def _hold(self, output: TextOutput | ShownOutput | bytes) -> None:
        held = self._held
        while held and (len(held) > self._max_outputs + _MORE_HELD or self._is_settled(held[0])):
            first = held.popleft()
            self._digest.update(first if isinstance(first, bytes) else first.block())
        held.append(output)

    def _is_settled(self, output: TextOutput | ShownOutput | bytes) -> bool:
        if isinstance(output, ShownOutput):
            return output.display_id is None
        return isinstance(output, bytes) or self._open.get(output.name) is not output

    def _reset(self) -> None:
        # Parts that were taken are stored by now, and stay counted for the run.
        self._budget.left += self._kept - self._taken
        self._taken = 0
        self._begin()
        self._changed_from = 0


def _display(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    output = {"output_type": kind, **_data(content)}
    if kind == "execute_result":
        output["execution_count"] = content.get("execution_count")
    return output


def _data(content: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: content.get(name) for name in ("data", "metadata")}
    return {name: value if isinstance(value, dict) else {} for name, value in told.items()}


def _display_id(content: Mapping[str, Any]) -> str | None:
    transient = content.get("transient")
    display_id = transient.get("display_id") if isinstance(transient, dict) else None
    return None if display_id is None else str(display_id)
