"""Events of a project or tenant as streams: as they happen, or all there are as JSON Lines.

Each window of events is read by itself, and given away before the next is read: a slow client
costs the memory of a window and no transaction.
"""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final, Literal

import msgspec
import structlog

from nbledger_application.caller import Caller
from nbledger_domain.histories import HistoryKind
from nbledger_http.representations.event_streams import Batch, TokenWatch, frame, pushed
from nbledger_http.representations.principals import named
from nbledger_http.requests.services import Services
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError
from nbledger_projections.read_models.histories.windows import Feed, Window, window

log = structlog.get_logger(__name__)

EVENTS_PER_WINDOW: Final = 500
PIECE_BYTES: Final = 64 * 1024
"""How much is sent at once: a client must take it within a minute."""

_GZIP_LEVEL: Final = 5
_GZIP_WINDOW: Final = 31

EndReason = Literal["limit_reached", "server_stopping", "token_invalid", "database_unavailable"]


class End(msgspec.Struct, kw_only=True):
    """Where an export has come to.

    All events that were asked for up to `position` have been told, `events` of them. `complete`
    is whether that is `until`, the last position at the beginning; otherwise `reason` says why not.
    """

    position: int
    until: int
    events: int
    complete: bool
    reason: EndReason | None = None


class EndLine(msgspec.Struct):
    """The last line of an export."""

    end: End


class EventPusher:
    """One client's stream of the events of a feed."""

    def __init__(
        self,
        services: Services,
        caller: Caller,
        feed: Feed,
        history: HistoryKind,
        token: TokenWatch,
    ) -> None:
        self._services = services
        self._caller = caller
        self._feed = feed
        self._history: HistoryKind = history
        self._token = token

    async def read(self, after: int, *, until: int | None = None, limit: int) -> Window:
        """The next events, with names."""
        services = self._services
        async with services.streams.reads:
            found = await window(services.pool, self._feed, after=after, until=until, limit=limit)
            entries = await named(services.names, self._feed.tenant_id, found.entries)
        return msgspec.structs.replace(found, entries=entries)

    def follow(self, after: int) -> AsyncGenerator[bytes]:
        """Server-sent events, from position ``after`` on, until the client leaves."""
        position = after

        async def read() -> Batch:
            nonlocal position
            await self._services.history_reads.record(self._caller, self._history, None, "stream")
            found = await self.read(position, limit=EVENTS_PER_WINDOW)
            pieces = _pieces([frame(entry) for entry in found.entries])
            if found.position > position and not _tells(found):
                # Whoever comes back goes on from here; it is no event to the client.
                pieces.append(b"id: %d\n\n" % found.position)
            position = found.position
            return Batch(pieces, more=not found.all)

        return pushed(self._services, self._feed.followed, self._token, read)

    async def export(
        self, after: int, until: int, limit: int | None = None
    ) -> AsyncGenerator[bytes]:
        """JSON Lines of the events after position ``after`` up to ``until``, and where it ended.

        There are ``limit`` at most.
        """
        position, events, begun = after, 0, False
        reason: EndReason | None = None
        while position < until:
            reason = "limit_reached" if events == limit else await self._stopped()
            if reason is not None:
                break
            most = EVENTS_PER_WINDOW if limit is None else min(limit - events, EVENTS_PER_WINDOW)
            try:
                found = await self.read(position, until=until, limit=most)
            except (DatabaseUnavailableError, *UNAVAILABLE) as error:
                if not begun:
                    raise
                log.warning("export interrupted", error=type(error).__name__)
                reason = "database_unavailable"
                break
            for piece in _pieces([msgspec.json.encode(each) + b"\n" for each in found.entries]):
                begun = True
                yield piece
            position = max(position, found.position)
            events += len(found.entries)
            if found.all:
                position = until
        end = End(
            position=position, until=until, events=events, complete=reason is None, reason=reason
        )
        yield msgspec.json.encode(EndLine(end)) + b"\n"

    async def _stopped(self) -> EndReason | None:
        if self._services.streams.ended:
            return "server_stopping"
        return None if await self._token.allows() else "token_invalid"


def _tells(found: Window) -> bool:
    return bool(found.entries) and found.entries[-1].position == found.position


def _pieces(parts: Sequence[bytes]) -> list[bytes]:
    """All parts after one another, in pieces that a slow client takes in time."""
    whole = b"".join(parts)
    return [whole[at : at + PIECE_BYTES] for at in range(0, len(whole), PIECE_BYTES)]


async def zipped(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same, compressed by gzip while it goes on."""
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    async with aclosing(pieces) as source:
        async for packed in _packed(packer, source):
            yield packed
    yield packer.flush()


async def _packed(packer: "zlib._Compress", pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
