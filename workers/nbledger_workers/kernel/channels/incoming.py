"""The messages of one of a kernel's channels, as they come.

A cell holds the kernel's key and its sockets, so that anything may come: what cannot be read is
told and passed over.
"""

from __future__ import annotations

import asyncio
import time
from hmac import compare_digest
from typing import Any, Final, NamedTuple

from jupyter_client.adapter import adapt

from nbledger_workers.kernel.channels.backpressure import Passage

# So much of what waits is taken at once: timers and other channels have their turn in between.
_MOST_AT_ONCE: Final = 50
_MOST_SECONDS_AT_ONCE: Final = 0.02


class Received(NamedTuple):
    """The frames before a message's delimiter, and the message; None where it cannot be read."""

    identities: list[bytes]
    message: dict[str, Any] | None


class Incoming:
    """Receives from one channel. Whoever is cancelled meanwhile loses no message.

    A `passage`, through which the channel's bytes come, is told what was taken.
    """

    def __init__(self, channel: Any, passage: Passage | None = None) -> None:
        self._channel = channel
        self._passage = passage
        if passage is not None:
            passage.begin()
        # Kept while nobody waits: a cancelled receive could take a message along.
        self._coming: asyncio.Future[list[bytes]] | None = None
        #: Whether somebody waits for a message, or lets others have their turn before it is taken.
        self.waits = False
        self._taken = 0
        self._turn_ends = 0.0

    async def next(self) -> Received:
        """The next message, whenever it comes."""
        received = await self.within(None)
        assert received is not None  # noqa: S101 - there was no limit
        return received

    async def within(self, seconds: float | None) -> Received | None:
        """The next message, or None where none comes in so many seconds."""
        self._taken += 1
        if self._taken >= _MOST_AT_ONCE or time.monotonic() >= self._turn_ends:
            await self._give_way()
        while True:
            coming = self._coming
            if coming is None or coming.cancelled():
                coming = self._coming = self._channel.socket.recv_multipart()
            if not coming.done():
                self._set_waiting(waiting=True)
                try:
                    await asyncio.wait((coming,), timeout=seconds)
                finally:
                    self._set_waiting(waiting=False)
                    self._begin_turn()
                if not coming.done():
                    return None
            if not coming.cancelled():
                break
        self._coming = None
        frames = coming.result()
        if self._passage is not None:
            self._passage.taken(frames)
        return _read(self._channel.session, frames)

    def _set_waiting(self, *, waiting: bool) -> None:
        self.waits = waiting
        if self._passage is not None:
            self._passage.starving = waiting

    def look_again(self) -> None:
        """Begin to receive anew; call it after each send on the channel.

        ZeroMQ tells once that something has come, and a send takes that away from a receive that
        waits already: it would wait for ever. A receive that is cancelled takes no message.
        """
        if self._coming is not None and not self._coming.done():
            self._coming.cancel()

    async def _give_way(self) -> None:
        """Let others have their turn: a message that is there is taken without waiting.

        A kernel that sends faster than it is read would else hold up all that this process does.
        """
        self.waits = True
        try:
            await asyncio.sleep(0)
        finally:
            self.waits = False
            self._begin_turn()

    def _begin_turn(self) -> None:
        self._taken, self._turn_ends = 0, time.monotonic() + _MOST_SECONDS_AT_ONCE


def _read(session: Any, frames: list[bytes]) -> Received:
    """Read a message without its times: the session's own way spends most on reading them."""
    try:
        identities, parts = session.feed_identities(frames)
    except ValueError:
        return Received([], None)
    try:
        return Received(identities, _decoded(session, parts))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no message
        return Received(identities, None)


def _decoded(session: Any, parts: list[bytes]) -> dict[str, Any]:
    if session.auth is not None and not compare_digest(parts[0], session.sign(parts[1:5])):
        raise ValueError("a message was not signed by the kernel")
    header, parent, metadata, content = (session.unpack(part) for part in parts[1:5])
    if not all(isinstance(each, dict) for each in (header, parent, metadata, content)):
        raise TypeError("a part of a message is no object")
    message: dict[str, Any] = adapt(
        {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": parent,
            "metadata": metadata,
            "content": content,
        }
    )
    message["buffers"] = parts[5:]
    return message
