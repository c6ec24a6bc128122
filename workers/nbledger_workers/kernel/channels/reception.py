"""Tells whether all that a kernel has published was received."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

# Half of ZeroMQ's high-water mark: a publisher drops messages only when it has more than these
# waiting (it is told of what was read by the half), and they all arrive in one go later.
_BURST: Final = 500
_BURST_SECONDS: Final = 3.0
_NUMBER_BYTES: Final = 20


class Reception:
    """Counts the messages of one kernel; `begin` each cell, `note` each message.

    A kernel with a guard (`publishing`) numbers its messages, so that a gap is a loss. Of another
    it is not known what it drops when it has more waiting than its high-water mark: whenever it
    may have had that many, it may have lost some.

    A cell can send messages that only look numbered. The first message, which comes before any
    cell runs, tells whether the kernel numbers; a number that is not the next one flags the cell
    at hand, whichever it is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        #: Messages so far.
        self.count = 0
        self.missing = 0
        self.doubtful = False
        self._disordered = False
        self._unreadable = 0
        self._cut = False
        self._clock = clock
        self._numbers: bool | None = None
        self._last = 0
        self._arrivals: deque[float] = deque(maxlen=_BURST)

    def begin(self) -> None:
        """Tell only of what comes from now on: nothing waits any more when a cell begins."""
        self.missing, self.doubtful = 0, False
        self._disordered, self._unreadable, self._cut = False, 0, False
        self._arrivals.clear()

    def note(self, identities: Sequence[bytes], *, readable: bool = True) -> None:
        """Take the frames of a message that are before its delimiter."""
        self.count += 1
        if not readable:
            self.note_unreadable()
        number = _number(identities)
        if self._numbers is None:
            self._numbers = number is not None
            self._last = number or 0
        elif self._numbers and number is not None:
            if number > self._last + 1:
                self.missing += number - self._last - 1
            self._disordered |= number <= self._last
            self._last = number
        if not self._numbers or number is None:
            self._arrivals.append(now := self._clock())
            if len(self._arrivals) == _BURST and now - self._arrivals[0] < _BURST_SECONDS:
                self.doubtful = True

    def note_unreadable(self) -> None:
        """The message that came last is none that can be understood."""
        self._unreadable += 1

    def note_held(self) -> None:
        """The kernel could not send for a while: one that does not number may drop messages."""
        self.doubtful |= not self._numbers

    def note_cut(self) -> None:
        """What comes from now on is not read."""
        self._cut = True

    @property
    def loss(self) -> str | None:
        """What is missing, in words; None where all was received."""
        if self.missing:
            if self.missing == 1:
                return "1 message of the kernel was lost on the way"
            return f"{self.missing:,} messages of the kernel were lost on the way"
        if self._disordered:
            return "messages of the kernel came with numbers that were not in order"
        if self._unreadable:
            return f"of the kernel's messages {self._unreadable:,} could not be read"
        if self._cut:
            return "the kernel went on sending, and not all of that was waited for"
        if self.doubtful:
            return (
                "the kernel put out much at once, and kernels of this kind drop what is not read "
                "in time"
            )
        return None


def _number(identities: Sequence[bytes]) -> int | None:
    last = identities[-1] if identities else b""
    if len(last) > _NUMBER_BYTES or last[:1] != b"#" or not last[1:].isdigit():
        return None
    return int(last[1:])
