"""The body of a request as it comes, so that what nobody has read can go by before the answer."""

import asyncio
import contextlib
from collections.abc import Iterable

from litestar.types import HTTPReceiveMessage, Receive

DRAIN_BYTES = 256 * 1024 * 1024
DRAIN_SECONDS = 10.0
"""How much of a body that nobody wants is taken, and for how long."""

DRAIN_BYTES_PER_SECOND = 64 * 1024
"""Who sends less than this, after a second, is not waited for."""


class Incoming:
    """An ASGI ``receive`` around another that knows whether the whole body has come."""

    def __init__(self, receive: Receive, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._receive = receive
        told = dict(headers)
        self._whole = told.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in told
        # Who asks before sending is told by the answer not to.
        self._asks = b"expect" in told

    async def __call__(self) -> HTTPReceiveMessage:
        """The next message."""
        self._asks = False
        message = await self._receive()
        if message["type"] != "http.request" or not message["more_body"]:
            self._whole = True
        return message  # type: ignore[return-value]

    async def drain(self) -> None:
        """Let what is left go by: who still sends does not hear what he is told."""
        if self._whole or self._asks:
            return
        size = 0
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            while size <= DRAIN_BYTES:
                patience = min(1 + size / DRAIN_BYTES_PER_SECOND, DRAIN_SECONDS)
                async with asyncio.timeout_at(began + patience):
                    message = await self()
                if message["type"] != "http.request" or not message["more_body"]:
                    return
                size += len(message["body"])
