"""What both transports have in common: how requests become those of httpx, and its errors ours."""

from __future__ import annotations

import contextlib
import functools
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from nbledger_client.core.requests import Content, Form, Part, Request
from nbledger_client.errors import (
    ConfigurationError,
    ConnectFailedError,
    ConnectionLostError,
    TimedOutError,
)

with contextlib.ExitStack() as _without:
    # httpx imports its own command line where click and rich are there: half of its time.
    if "httpx" not in sys.modules and "httpx._main" not in sys.modules:
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        _without.callback(sys.modules.pop, "httpx._main", None)
    import httpx

__all__ = ["PIECE_BYTES", "arguments", "httpx", "options", "ours", "timeout"]

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 60.0
PIECE_BYTES = 256 * 1024


def options(url: str) -> dict[str, Any]:
    """What an httpx client for ``url`` is made with; redirects are not followed."""
    found: dict[str, Any] = {"timeout": timeout(60.0)}
    if url.startswith("http://"):
        # Loading certificates, which nothing here would look at, takes 30 ms.
        found["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return found


@functools.lru_cache(maxsize=64)
def timeout(patience: float) -> httpx.Timeout:
    """The bounds of one request."""
    return httpx.Timeout(patience, connect=CONNECT_SECONDS, write=WRITE_SECONDS)


@contextmanager
def arguments(request: Request) -> Iterator[dict[str, Any]]:
    """What httpx is called with; files are open for the length of the block."""
    with ExitStack() as stack:
        # httpx takes longer to put a query together.
        query = f"?{urlencode(request.query)}" if request.query else ""
        found: dict[str, Any] = {
            "method": request.method,
            "url": request.url + query,
            "headers": request.headers,
            "timeout": timeout(request.patience),
        }
        if isinstance(request.body, Form):
            found["files"] = [("file", _part(part, stack)) for part in request.body.files]
            found["data"] = request.body.fields
        elif isinstance(request.body, Content):
            found["headers"] = {**request.headers, "Content-Type": request.body.media_type}
            found["content"] = _content(request.body, stack)
        yield found


def _part(part: Part, stack: ExitStack) -> tuple[str, bytes | IO[bytes], str]:
    return part.file_name, _source(part.source, stack), part.media_type


def _content(content: Content, stack: ExitStack) -> bytes | IO[bytes]:
    return _source(content.source, stack)


def _source(source: bytes | Path, stack: ExitStack) -> bytes | IO[bytes]:
    return source if isinstance(source, bytes) else stack.enter_context(source.open("rb"))


@contextmanager
def ours() -> Iterator[None]:
    """Errors of httpx become those of this package."""
    try:
        yield
    except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise TimedOutError(_told(error, "no connection in time"), reached=False) from error
    except httpx.TimeoutException as error:
        raise TimedOutError(_told(error, "no answer in time"), reached=True) from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise ConnectFailedError(_told(error, "no connection"), reached=False) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigurationError(f"The address of the server is none: {error}") from error
    except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as error:
        raise ConnectionLostError(_told(error, "the connection broke"), reached=True) from error


def _told(error: Exception, otherwise: str) -> str:
    request = getattr(error, "_request", None)
    where = "" if request is None else f" ({request.method} {request.url.copy_with(query=None)})"
    return f"{str(error) or otherwise}{where}"
