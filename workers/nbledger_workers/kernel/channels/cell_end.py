"""Tells when a cell is over, by what its kernel says on both of its channels.

A kernel replies to a cell on one channel, and says on another, after all output, that it is idle.
Either may arrive first. A cell can publish `idle` itself, and can reply to itself, so that neither
is believed as it stands:

- A kernel with `inside` puts a mark into its reply, made when the cell has ended, and the same
  mark into the `idle` that follows. It is the request's id under a key that the kernel was given
  at its start (HMAC, RFC 2104): whatever has another mark, or none, is not the kernel's own.
- Of another kernel an `idle` counts that was made after the reply, by the kernel's own times.
- Where that does not tell, the kernel is asked something: it answers when it is done with the cell,
  after all that it has published until then.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, Literal

import msgspec

from nbledger_workers.kernel.inside.members import (
    END_MEMBER,
    EXIT_MEMBER,
    LATE_MEMBER,
    RAN_MEMBER,
    REPLY_MEMBER,
    TASKS_MEMBER,
    UNFINISHED_MEMBER,
)

_MOST_COUNT: Final = 1 << 62
_MOST_NAMES: Final = 20
_MOST_CHARACTERS: Final = 200


class Told(msgspec.Struct, frozen=True):
    """What a kernel with `inside` tells with its reply.

    `unfinished` is what its orderly end has to do, in words. `exit_status` is that of a cell that
    ended by SystemExit, or during which a task did. `ran` says whether the cell has begun: not
    where the program had ended before. `tasks` counts the asyncio tasks that are pending, and
    `task_names` has names of their coroutines.
    """

    unfinished: list[str] = []
    exit_status: int | None = None
    ran: bool = True
    tasks: int = 0
    task_names: list[str] = []


class CellEnd:
    """What a kernel has said of one cell's end.

    `mark` is what its own reply and `idle` have; None of a kernel that gives none.
    """

    def __init__(self, mark: str | None) -> None:
        self._mark = mark
        self._reply: dict[str, Any] | None = None
        self._reply_is_marked = False
        self._replied_at: object = None
        self._idle_at: object = None
        self._idle = False
        self._idle_is_marked = False
        self._answers: set[str] = set()
        #: Replies that came to this cell; one, of a kernel that nobody meddles with.
        self.replies = 0
        #: What the kernel has told with its reply; None where it did not tell.
        self.told: Told | None = None
        #: Whether the kernel did not wait until all output of the cell was published.
        self.late = False

    def take_reply(self, content: dict[str, Any], date: object) -> None:
        """Take a reply, made at this time; the last one counts, unless only an earlier is marked.

        None counts that comes when the cell is over.
        """
        self.replies += 1
        told = content.get(REPLY_MEMBER)
        is_marked = isinstance(told, dict) and self._is_mark(told.get(END_MEMBER))
        if self.over or (self._reply_is_marked and not is_marked):
            return
        self._reply, self._reply_is_marked, self._replied_at = _sound(content), is_marked, date
        self.told = _told(told) if isinstance(told, dict) else None

    def take_idle(self, content: dict[str, Any], date: object) -> None:
        """Take a status that says that the kernel is idle, made at this time."""
        self._idle, self._idle_at = True, date
        if self._is_mark(content.get(REPLY_MEMBER)):
            self._idle_is_marked = True
            self.late |= content.get(LATE_MEMBER) is True

    def take_answer(self, channel: Literal["iopub", "shell"]) -> None:
        """The kernel has answered on this channel what it was asked after the cell.

        All that it has sent before on the same channel has come then, and on no other.
        """
        self._answers.add(channel)

    def _is_mark(self, told: object) -> bool:
        return self._mark is not None and told == self._mark

    @property
    def _answered(self) -> bool:
        return len(self._answers) == 2

    @property
    def reply(self) -> dict[str, Any] | None:
        """The content of the reply, once there is one that the kernel itself has made."""
        if self._mark is not None and not self._reply_is_marked and not self._answered:
            return None
        return self._reply

    @property
    def over(self) -> bool:
        """Whether the kernel has replied and all output of the cell has come."""
        if self._reply is None:
            return False
        if self._answered:
            return True
        if self._mark is None:
            return _is_after(self._idle_at, self._replied_at)
        return self._reply_is_marked and self._idle_is_marked

    @property
    def lacks_reply(self) -> bool:
        """Whether the kernel has told that the cell is over, and no reply has come."""
        if self._reply is not None:
            return False
        return self._idle_is_marked or (self.may_lack_reply and bool(self._answers))

    @property
    def may_lack_reply(self) -> bool:
        """Whether no reply has come and the cell seems over; a cell can say so of itself.

        Of a kernel without marks only its answer to a question can tell then.
        """
        return self._reply is None and self._idle and self._mark is None

    @property
    def answered(self) -> bool:
        """Whether an answer has come that the kernel has sent after the reply, on its channel."""
        return "shell" in self._answers

    @property
    def doubtful(self) -> bool:
        """Whether only the kernel's answer to a question can tell that the cell is over."""
        if self._reply is None or self.over:
            return False
        # A reply without the mark, or an `idle` without it, may be the cell's own.
        return self._idle or (self._mark is not None and not self._reply_is_marked)


def _is_after(one: object, other: object) -> bool:
    """Whether one of two times of a kernel, as it writes them, is the later."""
    if not isinstance(one, str) or not isinstance(other, str) or len(one) != len(other):
        return False
    return one > other


def _sound(content: dict[str, Any]) -> dict[str, Any]:
    """A reply's content with members only that are what the protocol says."""
    sound = {name: value for name, value in content.items() if name != REPLY_MEMBER}
    sound["execution_count"] = _count(content.get("execution_count"))
    payload = content.get("payload")
    sound["payload"] = [
        each for each in (payload if isinstance(payload, list) else []) if isinstance(each, dict)
    ]
    return sound


def _told(told: dict[str, Any]) -> Told:
    tasks = told.get(TASKS_MEMBER)
    tasks = tasks if isinstance(tasks, dict) else {}
    return Told(
        unfinished=_texts(told.get(UNFINISHED_MEMBER)),
        exit_status=_count(told.get(EXIT_MEMBER)),
        ran=told.get(RAN_MEMBER) is not False,
        tasks=max(_count(tasks.get("count")) or 0, 0),
        task_names=_texts(tasks.get("names")),
    )


def _texts(value: object) -> list[str]:
    found = value if isinstance(value, list) else []
    return [str(each)[:_MOST_CHARACTERS] for each in found[:_MOST_NAMES]]


def _count(value: object) -> int | None:
    """A whole number that any encoder can write; None of anything else."""
    return value if type(value) is int and abs(value) <= _MOST_COUNT else None


def mark_of(key: str, request_id: str) -> str:
    """The mark of a reply to the request, as `inside` makes it."""
    return hmac.new(key.encode(), request_id.encode(), "sha256").hexdigest()
