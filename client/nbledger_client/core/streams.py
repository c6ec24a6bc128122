"""Server-sent events, and how a stream of them goes on where it broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from nbledger_client.core.requests import Call
from nbledger_client.core.steps import Close, Item, Items, Sleep, read
from nbledger_client.errors import TransportError

if TYPE_CHECKING:
    from nbledger_client.core.conversation import Conversation

T = TypeVar("T")

RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Message:
    """One event of a stream; ``data`` is empty where only its id is told."""

    id: str
    event: str
    data: bytes


class Parser:
    """Takes a stream apart, as the HTML standard has it.

    Attributes:
        retry_seconds: how long the server wants clients to wait before they come back.
    """

    def __init__(self) -> None:
        self.retry_seconds = RETRY_SECONDS
        self._rest = b""
        self._id = ""
        self._told = False
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Message]:
        """The messages that ``piece`` completes."""
        text = self._rest + piece
        held = text.endswith(b"\r")  # which may be half of a line's end
        lines = (text[:-1] if held else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = lines.split(b"\n")
        self._rest = rest + b"\r" if held else rest
        found = [self._line(line) for line in whole]
        return [message for message in found if message is not None]

    def _line(self, line: bytes) -> Message | None:
        if not line:
            return self._message()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode()
        elif name == b"id" and b"\0" not in value:
            self._id, self._told = value.decode(), True
        elif name == b"retry" and value.isdigit():
            self.retry_seconds = int(value) / 1000
        return None

    def _message(self) -> Message | None:
        told = bool(self._data or self._told)
        message = Message(self._id, self._event, b"\n".join(self._data))
        self._event, self._data, self._told = "", [], False
        return message if told else None


def followed(
    talk: Conversation, call: Call[Any], decode: Callable[[bytes], T], *, after: int = 0
) -> Items[T]:
    """The events of a stream, across broken connections, until the server says that it is over.

    Each is told once, in order: the stream is asked for again from behind the last one. A server
    that cannot be reached is tried as often as requests are.
    """
    last, failures = str(after) if after else "", 0
    while True:
        headers = {**call.headers, "Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = last
        stream = yield from talk.open(replace(call, headers=headers))
        if stream.status == 204:
            yield Close(stream)
            return
        parser = Parser()
        try:
            while (piece := (yield from read(stream))) is not None:
                for message in parser.feed(piece):
                    if message.id and message.id != last:
                        last, failures = message.id, 0
                    if message.data:
                        yield Item(decode(message.data))
        except TransportError:
            pass  # as if it had ended: it goes on where it was
        yield Close(stream)
        if failures:
            longest = parser.retry_seconds * 2.0 ** min(failures - 1, 10)
            yield Sleep(min(longest, LONGEST_RETRY_SECONDS))
        failures += 1
