"""What a verb asks of the outside, one step after another.

A verb is a generator of steps: it yields what is to be done, is sent what came of it, and returns
its result. It knows nothing of threads and loops, so that one text serves both clients; what
performs the steps is in :mod:`~nbledger_client.core.blocking` and
:mod:`~nbledger_client.core.awaiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nbledger_client.core.requests import Request
from nbledger_client.errors import NbledgerError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Received:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body is still to come."""

    status: int
    headers: Mapping[str, str]
    response: Any
    pieces: Any


@dataclass(frozen=True, slots=True)
class Send:
    """Send it, and take the whole answer."""

    request: Request


@dataclass(frozen=True, slots=True)
class Open:
    """Send it, and take the head of the answer."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """Take the next piece of the body; None behind the last one."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Close:
    """Take no more of the body."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Do:
    """Call something that takes its time, such as the writing of a file."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """Hand this to who iterates."""

    value: T


Step = Send | Open | Read | Close | Sleep | Do
Steps = Generator[Step, Any, T]
Items = Generator[Step | Item[T], Any, None]


class Player(Generic[T]):
    """Goes through steps: what came of one leads to the next.

    Attributes:
        found: what came of the step that was handed out last.
        error: or the error that it ended with.
        result: what the steps have returned in the end.
        streams: those that are open.
    """

    def __init__(self, steps: Generator[Step | Item[Any], Any, T]) -> None:
        self._steps = steps
        self.found: Any = None
        self.error: NbledgerError | None = None
        self.result: T
        self.streams: list[Stream] = []

    def next(self) -> Step | Item[Any] | None:
        """The next step; None at the end."""
        found, self.found = self.found, None
        error, self.error = self.error, None
        try:
            return self._steps.send(found) if error is None else self._steps.throw(error)
        except StopIteration as end:
            self.result = end.value
            return None

    def close(self) -> None:
        """Let the steps end where they are."""
        self._steps.close()


def sent(request: Request) -> Steps[Received]:
    """The whole answer to ``request``."""
    found: Received = yield Send(request)
    return found


def opened(request: Request) -> Steps[Stream]:
    """The answer to ``request``, whose body is read piece by piece."""
    found: Stream = yield Open(request)
    return found


def read(stream: Stream) -> Steps[bytes | None]:
    """The next piece."""
    found: bytes | None = yield Read(stream)
    return found


def whole(stream: Stream) -> Steps[bytes]:
    """All that is still to come."""
    pieces: list[bytes] = []
    while (piece := (yield from read(stream))) is not None:
        pieces.append(piece)
    yield Close(stream)
    return b"".join(pieces)


def done(function: Callable[[], T]) -> Steps[T]:
    """What ``function`` returns, called where it holds nobody up."""
    found: T = yield Do(function)
    return found
