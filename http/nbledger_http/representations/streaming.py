"""Answers that go on: pieces are sent as they come, until there are no more or nobody listens."""

import asyncio
from collections.abc import AsyncGenerator

from litestar.types import Receive, Scope, Send

from nbledger_http.replies.responses import Reply
from nbledger_http.requests.concurrency import is_head, turn_of

STALL_SECONDS = 60.0
"""A client that takes nothing for so long is cut off; it holds up nobody else until then."""


class LiveReply(Reply):
    """An answer whose pieces are made while it is sent.

    However it ends, ``pieces`` is closed at once. While it goes on it takes nobody's turn. It
    begins with the first piece: what keeps that from being made is answered as any other error.
    """

    __slots__ = ("pieces",)

    def __init__(
        self, status: int, headers: list[tuple[bytes, bytes]], pieces: AsyncGenerator[bytes]
    ) -> None:
        super().__init__(status, headers)
        self.pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it until it ends or the client has gone."""
        turn_of(scope).give_back()
        if is_head(scope):
            await self._begin(send)
            await self.pieces.aclose()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        sending = asyncio.create_task(self._send(send), name="live reply")
        leaving = asyncio.create_task(_left(receive), name="live reply's client")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
            await self.pieces.aclose()
        if isinstance(results[0], Exception):
            raise results[0]

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})

    async def _send(self, send: Send) -> None:
        begun = False
        async for piece in self.pieces:
            if not begun:
                begun = True
                await self._begin(send)
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                return
        if not begun:
            await self._begin(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
