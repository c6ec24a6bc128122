"""Streams of events to one client: reading, sending and waiting, until something ends it."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec
import structlog
from litestar.response import ServerSentEventMessage

from nbledger_http.requests.services import Services
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError
from nbledger_projections.read_models.histories.entries import HistoryEntry

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 15.0
"""After so long without an event a comment is sent, and the token looked at again."""

READ_AGAIN_SECONDS = 1.0
"""How soon a stream tries again to read from a database that has gone away."""

RETRY_MILLISECONDS: Final = 1000


class Batch(msgspec.Struct, frozen=True):
    """What to send next, whether there is more of it already, and whether nothing ever follows."""

    pieces: Sequence[bytes] = ()
    more: bool = False
    last: bool = False


class TokenWatch:
    """Whether the token of a stream is still valid, which is looked at from time to time."""

    def __init__(self, services: Services, token: str | None) -> None:
        self._authenticator = services.authenticator
        self._token = token
        self._checked = time.monotonic()

    async def allows(self) -> bool:
        """Whether it was valid when it was last looked at, at most a heartbeat ago."""
        if time.monotonic() - self._checked < HEARTBEAT_SECONDS:
            return True
        self._checked = time.monotonic()
        try:
            return await self._authenticator.accepts(self._token)
        except (DatabaseUnavailableError, *UNAVAILABLE):
            return True  # it cannot be told now; events cannot be read then, either


async def pushed(
    services: Services, followed: UUID, token: TokenWatch, read: Callable[[], Awaitable[Batch]]
) -> AsyncGenerator[bytes]:
    """Server-sent events: what ``read`` gives, and again whenever ``followed`` has moved."""
    watch = services.streams
    yield b"retry: %d\n\n" % RETRY_MILLISECONDS
    with watch.follow(followed) as follower:
        while True:
            # Looked at first: what was recorded before the end is still sent.
            patience, ended = HEARTBEAT_SECONDS, watch.ended
            try:
                batch = await read()
            except (DatabaseUnavailableError, *UNAVAILABLE) as error:
                log.warning("event stream interrupted", error=type(error).__name__)
                batch, patience = Batch(), READ_AGAIN_SECONDS
            for piece in batch.pieces:
                yield piece
            if batch.last:
                yield b": end\n\n"
                return
            if ended:
                yield b": the server is about to end\n\n"
                return
            if not await token.allows():
                yield b": the access token is not valid any more\n\n"
                return
            if not batch.more and not await follower.moved(patience):
                yield b": waiting\n\n"


def frame(entry: HistoryEntry) -> bytes:
    """The event as a stream tells it."""
    data = msgspec.json.encode(entry)
    message = ServerSentEventMessage(data=data, event=entry.type, id=entry.position, sep="\n")
    return message.encode()
