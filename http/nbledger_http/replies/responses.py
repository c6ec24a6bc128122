"""Answers: ready-made bytes with headers, sent as they are."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.types import Receive, Scope, Send


class Reply:
    """An answer whose whole body is at hand; an ASGI application, so that nothing wraps it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def header_list(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """``headers`` in ASGI's form."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    ]


def json_reply(
    body: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Reply:
    """An answer of ready-made JSON."""
    return Reply(
        status,
        [
            (b"content-type", media_type.encode("latin-1")),
            (b"content-length", str(len(body)).encode()),
            *header_list(headers or {}),
        ],
        body,
    )


def empty_reply(status: int, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer without a body."""
    return Reply(status, header_list(headers or {}))


def with_members(document: bytes, **members: Any) -> bytes:
    """The JSON object ``document`` with ``members`` at its end."""
    extra = msgspec.json.encode(members)
    if document == b"{}":
        return extra
    return document[:-1] + b"," + extra[1:] if members else document
