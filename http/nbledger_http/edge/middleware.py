"""The outermost layer: request ids, HEAD, one log line per request, and no error unanswered."""

import asyncio
import re
import secrets
import time
from typing import Any, cast

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from nbledger_http.edge.cross_origin import CrossOrigin
from nbledger_http.replies.problems import from_exception
from nbledger_http.replies.rendering import render
from nbledger_http.replies.responses import Reply
from nbledger_http.requests.concurrency import Turn
from nbledger_http.requests.incoming import Incoming

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_QUIET = ("/health/live", "/health/ready")

MAX_WORKING = 512
"""How many requests are worked on at once; more wait for their turn."""


class Edge:
    """An ASGI application around another; counts the requests in hand."""

    def __init__(self, app: ASGIApp, origins: CrossOrigin) -> None:
        self._app = app
        self._origins = origins
        self._working = asyncio.Semaphore(MAX_WORKING)
        self.in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; pass anything else on."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        self.in_hand += 1
        try:
            await self._working.acquire()
            turn = Turn(self._working)
            cast("dict[str, Any]", scope)["turn"] = turn
            try:
                await self._answer(scope, receive, send)
            finally:
                turn.give_back()
        finally:
            self.in_hand -= 1

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request_id = _request_id(scope)
        cast("dict[str, Any]", scope)["request_id"] = request_id
        id_header = (b"x-request-id", request_id.encode())
        method = scope["method"]
        head = method == "HEAD"
        if head:
            scope["method"] = "GET"
            cast("dict[str, Any]", scope)["head"] = True
        status = 0
        incoming = Incoming(receive, scope["headers"])

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                await incoming.drain()
                status = message["status"]
                headers = [*message["headers"], id_header]
                message["headers"] = self._origins.headers(scope, headers)
            elif head and message["type"] == "http.response.body":
                if message.get("more_body"):
                    return
                message["body"] = b""
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if (headers := self._origins.preflight(scope)) is not None:
                    await Reply(204, headers)(scope, incoming, tell)
                else:
                    await self._app(scope, incoming, tell)
            except Exception as error:
                # Litestar's own handler answers errors; what comes here was raised around it,
                # or after the answer had begun, which can then only be cut off.
                problem = from_exception(error)
                if status:
                    raise
                await render(problem, request_id)(scope, incoming, tell)
            finally:
                path = scope["path"]
                if path not in _QUIET:
                    log.info(
                        "request",
                        method=method,
                        route=_route(scope),
                        status=status,
                        duration_ms=round((time.perf_counter() - began) * 1000, 2),
                    )


def _request_id(scope: HTTPScope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _REQUEST_ID.match(value):
                return value.decode("ascii")
            break
    return secrets.token_hex(12)


def _route(scope: HTTPScope) -> str:
    """The route's template: a path may hold what does not belong in logs."""
    template = cast("dict[str, Any]", scope).get("path_template")
    return template if isinstance(template, str) else "-"
