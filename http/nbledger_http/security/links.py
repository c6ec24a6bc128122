"""Download links: signed, so that they work without a token, and only until they expire."""

import functools
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote, quote_plus
from uuid import UUID

import msgspec
from litestar import Request

from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.postgres.database import Pool, acquire

KEY_NAME = "download-links"
BASE_PATH = "nbledger.base_path"
"""What a request's scope has the path under that everything is below, where there is one."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Link(msgspec.Struct, frozen=True):
    """A file that may be fetched: where it is kept, and what it is served as."""

    scope: Scope
    digest: str
    file_name: str
    content_type: str


class LinkSigner:
    """Makes links and checks them; all processes that share the key agree."""

    def __init__(
        self, key: bytes, *, lifetime_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._lifetime = lifetime_seconds
        self._clock = clock

    def path(self, link: Link) -> str:
        """Path and query of a link that works from now on."""
        expires = str(self._expiry())
        # Signatures are hexadecimal, and times digits: nothing in them is to be quoted.
        return (
            f"/downloads/{_prefix(link.scope)}/{link.digest}/{quote(link.file_name)}"
            f"?contentType={_quoted(link.content_type)}&expires={expires}"
            f"&signature={self._signature(link, expires)}"
        )

    def generation(self) -> int:
        """A number that changes whenever links made anew differ from those made before."""
        return self._expiry()

    def _expiry(self) -> int:
        """A full lifetime from now, up to the next step: links of one step are all the same."""
        step = max(1, int(self._lifetime / 24))
        return int((self._clock() + self._lifetime) // step + 1) * step

    def check(self, path: Mapping[str, str], query: Mapping[str, str]) -> Link | None:
        """The link that path parameters and query spell; ``None`` if forged or expired."""
        try:
            scope = Scope(
                UUID(path["tenant_id"]), UUID(path["project_id"]), UUID(path["notebook_id"])
            )
            link = Link(scope, path["digest"], path["file_name"], query["contentType"])
            expires, signature = query["expires"], query["signature"]
        except (KeyError, ValueError):
            return None
        expected = self._signature(link, expires).encode()
        if not hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
            return None
        # What we have signed is well-formed.
        return link if int(expires) > self._clock() and _DIGEST.match(link.digest) else None

    def _signature(self, link: Link, expires: str) -> str:
        parts = [_prefix(link.scope), link.digest, link.file_name, link.content_type, expires]
        # The lengths keep one part from lending bytes to the next.
        message = "\n".join(f"{len(part)}:{part}" for part in parts)
        return hmac.digest(self._key, message.encode("utf-8", "replace"), "sha256").hex()


# Of one scope many links are made at once.
@functools.lru_cache(maxsize=256)
def _prefix(scope: Scope) -> str:
    return scope.prefix


@functools.lru_cache(maxsize=1000)
def _quoted(content_type: str) -> str:
    return quote_plus(content_type)


async def signing_key(pool: Pool) -> bytes:
    """The key in the database, which whoever comes first has made."""
    async with acquire(pool) as connection:
        await connection.execute(
            "INSERT INTO secret_key (name, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            KEY_NAME,
            secrets.token_bytes(32),
        )
        key: bytes = await connection.fetchval(
            "SELECT key FROM secret_key WHERE name = $1", KEY_NAME
        )
    return key


def base_url(request: Request[Any, Any, Any], public_url: str) -> str:
    """What clients reach the API by: as set, else as this request did."""
    if public_url:
        return public_url.rstrip("/")
    host = request.headers.get("host", "localhost")
    return f"{request.scope['scheme']}://{host}{base_path(request)}"


def base_path(request: Request[Any, Any, Any]) -> str:
    """What clients put before the paths of the API."""
    found: str = cast("dict[str, Any]", request.scope).get(BASE_PATH, "")
    return found
