"""Sending a POST to a URL that a user has named: where to, how long, how much is bounded.

Redirects are not followed, the environment's proxies not heard, and of the answer only the
beginning is read.
"""

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import httpcore
import msgspec

from nbledger_infrastructure.egress.addresses import Reach, literal
from nbledger_infrastructure.egress.connections import KEPT_SECONDS, Connection, KeptConnections
from nbledger_infrastructure.egress.guarding import (
    AddressRefusedError,
    GuardedBackend,
    NameUnknownError,
)

MOST_ANSWER_BYTES: Final = 4096
MOST_HEADERS: Final = 50
MOST_HEADER_CHARACTERS: Final = 500


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request.

    ``status``, ``headers`` and the beginning of the ``body`` are of the answer, where there was
    one; ``error`` is a code where there was none, and ``detail`` says more.
    """

    milliseconds: int
    status: int | None = None
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    error: str | None = None
    detail: str | None = None


def trusting(ca_file: str = "") -> ssl.SSLContext:
    """Certificates by the authorities of this system, and by those in ``ca_file`` (PEM).

    Raises ``OSError`` where it cannot be read, which ``ssl.SSLError`` is.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


class Poster:
    """Sends requests, until it is closed; within one event loop.

    Up to ``at_once`` names are resolved at a time.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        at_once: int,
        reach: Reach,
        proxy_url: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout_seconds
        context = tls or trusting()
        self._reaches = {
            b"https": reach,
            # What is not encrypted stays within networks that were allowed by name.
            b"http": msgspec.structs.replace(reach, public=False),
        }
        proxy = _proxy(proxy_url, context) if proxy_url else None
        self._proxied = proxy is not None
        self._backends: list[GuardedBackend] = []
        self._connections: dict[bytes, KeptConnections] = {}
        for scheme, each in self._reaches.items():
            # Behind a proxy it is the proxy that connects, and decides.
            backend = None if proxy else GuardedBackend(each, at_once)
            if backend is not None:
                self._backends.append(backend)
            self._connections[scheme] = KeptConnections(
                partial(
                    httpcore.AsyncConnectionPool,
                    ssl_context=context,
                    proxy=proxy,
                    max_connections=1,
                    keepalive_expiry=KEPT_SECONDS,
                    network_backend=backend,
                )
            )

    async def aclose(self) -> None:
        """Close all connections."""
        for each in self._connections.values():
            await each.aclose()
        for backend in self._backends:
            backend.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answered:
        """Send ``body`` to ``url``; never raises but for cancellation."""
        began = time.monotonic()

        def since() -> int:
            return round((time.monotonic() - began) * 1000)

        try:
            async with asyncio.timeout(self._timeout):
                status, told, start = await self._exchange(httpcore.URL(url), headers, body)
        except Exception as error:  # noqa: BLE001 (every failure of a receiver is recorded alike)
            code, detail = _failure(error)
            return Answered(milliseconds=since(), error=code, detail=detail)
        return Answered(milliseconds=since(), status=status, headers=told, body=start)

    async def _exchange(
        self, url: httpcore.URL, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        self._check(url)
        connections, key = self._connections[url.scheme], str(url.origin)
        connection = connections.take(key)
        try:
            told = await self._send(connection, url, headers, body)
        except BaseException:
            await asyncio.shield(connection.aclose())
            raise
        await connections.give_back(key, connection)
        return told

    def _check(self, url: httpcore.URL) -> None:
        """Behind a proxy nothing is resolved here; an address in the URL needs no resolving."""
        if self._proxied:
            host = url.host.decode("ascii")
            address = literal(host)
            if address is not None and not self._reaches[url.scheme].takes(address):
                raise AddressRefusedError(f"{host} may not be connected to")

    async def _send(
        self,
        connection: Connection,
        url: httpcore.URL,
        headers: Mapping[str, str],
        body: bytes,
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        # Bytes as they are: httpcore encodes a URL in ASCII.
        async with connection.stream(
            "POST",
            url,
            headers=[(name, value) for name, value in headers.items()]
            + [("Host", _host(url)), ("Content-Length", str(len(body)))],
            content=body,
        ) as response:
            start = b""
            async for chunk in response.aiter_stream():
                start = (start + chunk)[:MOST_ANSWER_BYTES]
                if len(start) == MOST_ANSWER_BYTES:
                    break
            return response.status, _bounded(response.headers), start


def _proxy(url: str, context: ssl.SSLContext) -> httpcore.Proxy:
    """The proxy at ``url``, which may hold a user and a password."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    place = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    auth = None
    if parts.username is not None:
        auth = (unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or ""))
    return httpcore.Proxy(
        place, auth=auth, ssl_context=context if parts.scheme == "https" else None
    )


def _host(url: httpcore.URL) -> str:
    host = url.host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return host if url.port is None else f"{host}:{url.port}"


def _bounded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [
        (
            name.decode("latin-1").lower()[:MOST_HEADER_CHARACTERS],
            value.decode("latin-1")[:MOST_HEADER_CHARACTERS],
        )
        for name, value in list(headers)[:MOST_HEADERS]
    ]


_CODES: Final[Sequence[tuple[type[BaseException], str]]] = (
    (TimeoutError, "timeout"),
    (httpcore.TimeoutException, "timeout"),
    (AddressRefusedError, "address_refused"),
    (NameUnknownError, "name_unknown"),
    (httpcore.ProxyError, "proxy_failed"),
    (httpcore.ConnectError, "connection_failed"),
    (httpcore.ProtocolError, "protocol_error"),
    (httpcore.NetworkError, "connection_lost"),
)


def _failure(error: BaseException) -> tuple[str, str]:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "failed")
    if code == "connection_failed" and isinstance(error.__context__, ssl.SSLError):
        code = "tls_failed"
    return code, str(error)[:MOST_HEADER_CHARACTERS]
