"""Sending a POST to a URL that a user has named: where to, how long, how much is bounded.

Redirects are not followed, the environment's proxies not heard, and of the answer only the
beginning is read.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast

import httpcore
import msgspec

from nbledger_infrastructure.egress.addresses import (
    Address,
    Network,
    address_of,
    is_public,
    is_within,
)

MOST_ANSWER_BYTES: Final = 4096
MOST_HEADERS: Final = 50
MOST_HEADER_CHARACTERS: Final = 500
RESOLVERS: Final = 32
"""So many names are resolved at a time, apart from all other threads of the process."""


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


class AddressRefusedError(Exception):
    """A name resolves to no address that may be connected to."""


class NameUnknownError(Exception):
    """A name resolves to nothing."""


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, and to none else."""

    def __init__(self, allowed: Sequence[Network], *, public: bool) -> None:
        self._allowed = allowed
        self._public = public
        # Without anyio httpcore has a class in its place that only tells so.
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")

    def close(self) -> None:
        """Let go of the threads, without waiting for a name that resolves slowly."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of ``host`` that may be connected to and answers."""
        failure: httpcore.ConnectError | None = None
        for address in await self._acceptable(host, port):
            try:
                return await self._inner.connect_tcp(
                    str(address),
                    port,
                    timeout=timeout,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except httpcore.ConnectError as error:
                failure = error
        assert failure is not None  # noqa: S101 (there is an address, or it was refused)
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)

    async def _acceptable(self, host: str, port: int) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            raise NameUnknownError(f"{host}: {error}") from error
        addresses = list(dict.fromkeys(address_of(str(each[4][0])) for each in found))
        good = [each for each in addresses if self._may_reach(each)]
        if not good:
            told = ", ".join(map(str, addresses))
            raise AddressRefusedError(f"{host} is {told}, which may not be connected to")
        return good

    def _may_reach(self, address: Address) -> bool:
        return is_within(address, self._allowed) or (self._public and is_public(address))


class Poster:
    """Sends requests, until it is closed; within one event loop."""

    def __init__(
        self,
        *,
        timeout_seconds: float,
        connections: int,
        allowed: Sequence[Network] = (),
        proxy_url: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout = timeout_seconds
        context = tls or ssl.create_default_context()
        self._backends = (
            _GuardedBackend(allowed, public=True),
            # What is not encrypted stays within networks that were allowed by name.
            _GuardedBackend(allowed, public=False),
        )
        proxy = httpcore.Proxy(proxy_url) if proxy_url else None
        secure, plain = (
            httpcore.AsyncConnectionPool(
                ssl_context=context,
                proxy=proxy,
                max_connections=connections,
                max_keepalive_connections=min(connections, 64),
                keepalive_expiry=15.0,
                # Behind a proxy it is the proxy that connects, and decides.
                network_backend=None if proxy else backend,
            )
            for backend in self._backends
        )
        self._pools = {"https": secure, "http": plain}

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()
        for backend in self._backends:
            backend.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answered:
        """Send ``body`` to ``url``; never raises but for cancellation."""
        began = time.monotonic()

        def since() -> int:
            return round((time.monotonic() - began) * 1000)

        try:
            async with asyncio.timeout(self._timeout):
                status, told, start = await self._exchange(url, headers, body)
        except Exception as error:  # noqa: BLE001 (every failure of a receiver is recorded alike)
            code, detail = _failure(error)
            return Answered(milliseconds=since(), error=code, detail=detail)
        return Answered(milliseconds=since(), status=status, headers=told, body=start)

    async def _exchange(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        pool = self._pools[url.partition(":")[0]]
        # Bytes as they are: httpcore encodes a URL in ASCII.
        async with pool.stream(
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


def _host(url: str) -> str:
    parsed = httpcore.URL(url)
    host = parsed.host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return host if parsed.port is None else f"{host}:{parsed.port}"


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
