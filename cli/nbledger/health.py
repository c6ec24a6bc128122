"""Health answers for the roles that have no API: /health/live and /health/ready."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nbledger_infrastructure.settings import HealthServer

REQUEST_TIMEOUT = 5.0
"""Seconds a client has to send its request."""


@asynccontextmanager
async def serve(settings: HealthServer, missing: Callable[[], list[str]]) -> AsyncIterator[None]:
    """Answer on the port of ``settings``, or nowhere when it is 0.

    ``missing`` tells what the role lacks to be ready.
    """
    if settings.port == 0:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                request = await reader.readline()
                path = request.split(b" ")[1] if request.count(b" ") >= 2 else b""
                writer.write(_response(path, missing()))
                await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, settings.host, settings.port):
        yield


def _response(path: bytes, missing: list[str]) -> bytes:
    if path == b"/health/live":
        status, body = b"200 OK", b'{"status":"live"}'
    elif path == b"/health/ready" and not missing:
        status, body = b"200 OK", b'{"status":"ready"}'
    elif path == b"/health/ready":
        status = b"503 Service Unavailable"
        body = json.dumps({"status": "not ready", "missing": missing}).encode()
    else:
        status, body = b"404 Not Found", b"{}"
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%s" % (status, len(body), body)
    )
