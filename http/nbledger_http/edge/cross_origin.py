"""Pages of other origins: which of them may use the API from a browser (Fetch, section 3.2).

Litestar has a middleware for this, which puts ``Vary: Origin`` in the place of what answers say
they vary by, and tells origins that may not what others may.
"""

from collections.abc import Iterable
from typing import Final

from litestar.types import HTTPScope

from nbledger_infrastructure.settings import Http

Headers = list[tuple[bytes, bytes]]

METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
REMEMBERED_SECONDS: Final = b"7200"
"""How long a browser may go without asking again; browsers take no more than this."""

# What a page may read without being told so (Fetch, "CORS-safelisted response-header name").
_SAFE: Final = {
    b"cache-control",
    b"content-language",
    b"content-length",
    b"content-type",
    b"expires",
    b"last-modified",
    b"pragma",
}


class CrossOrigin:
    """What answers tell browsers of the named origins, and nobody of any other."""

    def __init__(self, http: Http) -> None:
        self._credentials = frozenset(each.encode() for each in http.cors_credentials)
        self._origins = frozenset(each.encode() for each in http.cors_origins) | self._credentials

    def preflight(self, scope: HTTPScope) -> Headers | None:
        """The headers of the answer to a browser that asks whether a page may; else ``None``."""
        if scope["method"] != "OPTIONS" or not self._allowed(scope):
            return None
        if _header(scope, b"access-control-request-method") is None:
            return None
        headers = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-max-age", REMEMBERED_SECONDS),
            (b"vary", b"Access-Control-Request-Headers"),
        ]
        wanted = _header(scope, b"access-control-request-headers")
        if wanted:
            headers.append((b"access-control-allow-headers", wanted))
        return headers

    def headers(self, scope: HTTPScope, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """The headers of an answer, with what the browser needs to know of them."""
        told = list(headers)
        if not self._origins:
            return told
        # Caches must know it of whatever could be answered otherwise.
        told = list(_varied(told))
        if allowed := self._allowed(scope):
            told += [*allowed, (b"access-control-expose-headers", _exposed(told))]
        return told

    def _allowed(self, scope: HTTPScope) -> Headers:
        """What tells a browser that the page may; nothing where it may not."""
        origin = _header(scope, b"origin")
        if origin is None or origin not in self._origins:
            return []
        allowed = [(b"access-control-allow-origin", origin)]
        if origin in self._credentials:
            allowed.append((b"access-control-allow-credentials", b"true"))
        return allowed


def _header(scope: HTTPScope, name: bytes) -> bytes | None:
    return next((value for each, value in scope["headers"] if each == name), None)


def _varied(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    """The headers, with Origin behind what the answer varies by otherwise."""
    varies: list[bytes] = []
    for name, value in headers:
        if name.lower() == b"vary":
            varies.append(value)
        else:
            yield name, value
    yield b"vary", b", ".join([*varies, b"Origin"])


def _exposed(headers: Headers) -> bytes:
    """The names of all headers of the answer that a page could not read otherwise."""
    names = {name.lower() for name, _ in headers} - _SAFE
    return b", ".join(sorted(names))
