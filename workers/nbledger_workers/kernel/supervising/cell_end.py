"""Tells when a cell is over, by what its kernel says on both of its channels.

A kernel replies to a cell on one channel, and says on another, after all output, that it is idle.
Either may arrive first. A cell can publish `idle` itself, and can reply to itself, so that neither
is believed as it stands:

- A kernel with `inside` puts a mark into its reply, made when the cell has ended, and the same
  mark into the `idle` that follows. It is the request's id under a key that the kernel was given
  at its start (HMAC, RFC 2104): a reply with another mark counts as one without.
- Of another kernel an `idle` counts that was made after the reply, by the kernel's own times.
- Where that does not tell, the kernel is asked something: it answers when it is done with the cell,
  after all that it has published until then.
"""

from __future__ import annotations

import hmac
from collections import deque
from typing import Any, Final, Literal

from nbledger_workers.kernel.inside.ipython import END_MEMBER, REPLY_MEMBER

_MOST_MARKS: Final = 100
_MOST_COUNT: Final = 1 << 62


class CellEnd:
    """What a kernel has said of one cell's end; `marks` says whether it gives marks."""

    def __init__(self, *, marks: bool) -> None:
        self._marks = marks
        self._reply: dict[str, Any] | None = None
        self._mark: str | None = None
        self._replied_at: object = None
        self._idle_at: object = None
        self._idle = False
        self._idle_marks: deque[str] = deque(maxlen=_MOST_MARKS)
        self._answers: set[str] = set()
        self._expected: str | None = None
        #: Replies that came to this cell; one, of a kernel that nobody meddles with.
        self.replies = 0

    def expect(self, mark: str) -> None:
        """Believe no mark but this one."""
        self._expected = mark

    def take_reply(self, content: dict[str, Any], date: object) -> None:
        """Take a reply, made at this time; the last one counts, unless only an earlier has a mark.

        None counts that comes when the cell is over.
        """
        self.replies += 1
        content = _sound(content)
        mark = content.get(REPLY_MEMBER, {}).get(END_MEMBER)
        if self._expected is not None and mark != self._expected:
            mark = None
        if self.over or (self._mark is not None and mark is None):
            return
        self._reply, self._mark, self._replied_at = content, mark, date

    def take_idle(self, content: dict[str, Any], date: object) -> None:
        """Take a status that says that the kernel is idle, made at this time."""
        self._idle, self._idle_at = True, date
        mark = content.get(REPLY_MEMBER)
        if isinstance(mark, str) and self._expected in (None, mark):
            self._idle_marks.append(mark)

    def take_answer(self, channel: Literal["iopub", "shell"]) -> None:
        """The kernel has answered on this channel what it was asked after the cell.

        All that it has sent before on the same channel has come then, and on no other.
        """
        self._answers.add(channel)

    @property
    def _answered(self) -> bool:
        return len(self._answers) == 2

    @property
    def reply(self) -> dict[str, Any] | None:
        """The content of the reply, once there is one that the kernel itself has made."""
        if self._marks and self._mark is None and not self._answered:
            return None
        return self._reply

    @property
    def over(self) -> bool:
        """Whether the kernel has replied and all output of the cell has come."""
        if self._reply is None:
            return False
        if self._mark is not None:
            return self._answered or self._mark in self._idle_marks
        return self._answered or (not self._marks and _is_after(self._idle_at, self._replied_at))

    @property
    def doubtful(self) -> bool:
        """Whether only the kernel's answer to a question can tell that the cell is over."""
        if self._reply is None or self.over:
            return False
        # An `idle` that has not the mark may be the cell's own, as may be those that have pushed
        # the kernel's own one out of what is kept; or the mark may be none of the kernel's.
        return self._idle or (self._marks and self._mark is None)


def _is_after(one: object, other: object) -> bool:
    """Whether one of two times of a kernel, as it writes them, is the later."""
    if not isinstance(one, str) or not isinstance(other, str) or len(one) != len(other):
        return False
    return one > other


def _sound(content: dict[str, Any]) -> dict[str, Any]:
    """A reply's content with members only that are what the protocol says."""
    sound = {name: value for name, value in content.items() if name != REPLY_MEMBER}
    count = content.get("execution_count")
    if type(count) is not int or abs(count) > _MOST_COUNT:
        sound["execution_count"] = None
    payload = content.get("payload")
    sound["payload"] = [
        each for each in (payload if isinstance(payload, list) else []) if isinstance(each, dict)
    ]
    told = content.get(REPLY_MEMBER)
    if isinstance(told, dict):
        unfinished, mark = told.get("unfinished"), told.get(END_MEMBER)
        sound[REPLY_MEMBER] = {
            "unfinished": list(map(str, unfinished)) if isinstance(unfinished, list) else [],
            END_MEMBER: mark if isinstance(mark, str) else None,
        }
    return sound


def mark_of(key: str, request_id: str) -> str:
    """The mark of a reply to the request, as `inside` makes it."""
    return hmac.new(key.encode(), request_id.encode(), "sha256").hexdigest()
