"""Bodies that others answer over HTTP, of which no more is read than is wanted."""

import httpx


class LongBodyError(Exception):
    """A body of more bytes than are wanted."""


async def body_of(answer: httpx.Response, most_bytes: int) -> bytes:
    """The body of an answer that is streamed. Raises :class:`LongBodyError`, and as httpx does."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > most_bytes:
            raise LongBodyError(f"more than {most_bytes} bytes")
    return bytes(body)
