"""Being reached by way of proxies: what they say of the request, and the base path."""

import re
from collections.abc import Iterable
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from nbledger_http.security.links import BASE_PATH
from nbledger_infrastructure.egress.addresses import address_of, networks
from nbledger_infrastructure.settings import BASE_PATH_PATTERN, Http

_HEALTH = "/health/"
_BASE = re.compile(BASE_PATH_PATTERN)
# A name, an IPv4 address or an IPv6 address in brackets, with or without a port.
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?\Z")


class Proxied:
    """An ASGI application around another, which then knows by what address it was reached.

    Trusted proxies tell scheme, host and the part of the path that they took away by the de facto
    headers ``X-Forwarded-Proto``, ``X-Forwarded-Host`` and ``X-Forwarded-Prefix``. Of several
    values the last one counts, which the nearest proxy has added: whatever comes before it may be
    the client's own. Below ``http.base_path`` is everything but the health checks, which whoever
    starts the process calls without a proxy.
    """

    def __init__(self, app: ASGIApp, http: Http) -> None:
        self._app = app
        self._base = http.base_path
        self._trusted = networks(http.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request at the address that the client used."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        prefix = self._believe(scope) if self._trusts(scope.get("client")) else ""
        if self._base and not scope["path"].startswith(_HEALTH):
            _shorten(scope, self._base)
            prefix += self._base
        if not prefix:
            await self._app(scope, receive, send)
            return
        cast("dict[str, Any]", scope)[BASE_PATH] = prefix

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(_located(message["headers"], prefix.encode()))
            await send(message)

        await self._app(scope, receive, tell)

    def _trusts(self, client: tuple[str, int] | None) -> bool:
        if not self._trusted or client is None:
            return False
        try:
            address = address_of(client[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._trusted)

    def _believe(self, scope: HTTPScope) -> str:
        """Take scheme and host from the headers; return the prefix. What is malformed is not."""
        scheme = _last(scope, b"x-forwarded-proto").lower()
        if scheme in ("http", "https"):
            scope["scheme"] = scheme
        host = _last(scope, b"x-forwarded-host")
        if _HOST.match(host):
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [(b"host", host.encode()), *others]
        prefix = _last(scope, b"x-forwarded-prefix").rstrip("/")
        return prefix if _BASE.match(prefix) else ""


def _last(scope: HTTPScope, name: bytes) -> str:
    values = [value for each, value in scope["headers"] if each == name]
    return values[-1].decode("latin-1").rpartition(",")[2].strip() if values else ""


def _shorten(scope: HTTPScope, base: str) -> None:
    """Take the base path away; a path outside it becomes one that no handler has."""
    path, raw = scope["path"], scope.get("raw_path") or b""
    if path == base or path.startswith(f"{base}/"):
        scope["path"] = path[len(base) :] or "/"
        # What a base path may have in it is never quoted, unless by a client that likes to.
        if raw.startswith(base.encode()):
            scope["raw_path"] = raw[len(base) :] or b"/"
        else:
            scope["raw_path"] = scope["path"].encode()
    else:
        scope["path"] = "/outside-of-the-base-path"
        scope["raw_path"] = scope["path"].encode()


def _located(
    headers: Iterable[tuple[bytes, bytes]], prefix: bytes
) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if name.lower() == b"location" and value.startswith(b"/"):
            yield name, prefix + value
        else:
            yield name, value
