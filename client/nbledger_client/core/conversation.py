"""Calls become requests, answers become what they tell, and what failed is tried again."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from nbledger_client.answers import Answer, told
from nbledger_client.configuration import Connection
from nbledger_client.core.repeating import Attempts, Retries
from nbledger_client.core.requests import Call, Repeat, Request, path_of, query_of
from nbledger_client.core.steps import Received, Sleep, Steps, Stream, opened, sent, whole
from nbledger_client.errors import (
    AnswerNotUnderstoodError,
    ConfigurationError,
    NbledgerError,
    NotFoundError,
    error_of,
)

T = TypeVar("T")

KEY = "Idempotency-Key"
POSITION = "Nbledger-Position"
LIST_WAIT_SECONDS = 5
"""How long a list may wait for what this client has written."""

USER_AGENT = "nbledger-client"


class Conversation:
    """One client's talk with one server.

    Attributes:
        connection: where the server is, and who asks.
        patience: seconds that an answer may take to begin.
    """

    def __init__(self, connection: Connection, *, retries: Retries, patience: float) -> None:
        self.connection = connection
        self.patience = patience
        self._retries = retries
        self._written = 0
        self._origin = urlsplit(connection.url)[:2]

    def ask(self, call: Call[T]) -> Steps[T]:
        """What the answer to ``call`` tells."""
        request = self._request(call)
        attempts = Attempts(self._retries, call.repeat)
        while True:
            try:
                received = yield from sent(request)
                return self._read(call, received)
            except NbledgerError as error:
                if call.forgiving and attempts.uncertain and isinstance(error, NotFoundError):
                    return self._nothing(call)
                seconds = attempts.again(error)
                if seconds is None:
                    raise
            yield Sleep(seconds)

    def open(self, call: Call[Any]) -> Steps[Stream]:
        """The answer to ``call``, whose body is still to come."""
        request = self._request(call)
        attempts = Attempts(self._retries, call.repeat)
        while True:
            try:
                stream = yield from opened(request)
                if stream.status < 300:
                    return stream
                content = yield from whole(stream)
                raise error_of(stream.status, stream.headers, content)
            except NbledgerError as error:
                seconds = attempts.again(error)
                if seconds is None:
                    raise
            yield Sleep(seconds)

    def _request(self, call: Call[Any]) -> Request:
        url, foreign = self._address(call.path)
        headers = {"User-Agent": USER_AGENT, **call.headers}
        if self.connection.token and not foreign:
            headers["Authorization"] = f"Bearer {self.connection.token}"
        if call.repeat is Repeat.BY_KEY and KEY not in headers:
            headers[KEY] = f'"{uuid4()}"'
        wait = call.wait
        if call.own_writes and self._written:
            headers[POSITION] = str(self._written)
            wait = max(wait, LIST_WAIT_SECONDS)
        if wait:
            headers["Prefer"] = f"wait={wait}"
        return Request(
            method=call.method,
            url=url,
            query=query_of(call.query),
            headers=headers,
            body=call.body,
            patience=self.patience + wait,
            foreign=foreign,
        )

    def _address(self, path: str) -> tuple[str, bool]:
        if "://" in path:
            return path, urlsplit(path)[:2] != self._origin
        if path.startswith("/"):
            return self.connection.url + path, False
        connection = self.connection
        if not connection.tenant_id or not connection.project_id:
            raise ConfigurationError(
                "It is not said in which tenant and project: set NBLEDGER_TENANT and "
                "NBLEDGER_PROJECT, or give tenant_id and project_id."
            )
        place = path_of("api", connection.tenant_id, connection.project_id)
        return f"{connection.url}/{place}/{path}", False

    def _read(self, call: Call[T], received: Received) -> T:
        if received.status >= 300:
            raise error_of(received.status, received.headers, received.content)
        answer = answer_of(received.status, received.headers)
        if call.method != "GET" and answer.position is not None:
            self._written = max(self._written, answer.position)
        body = read_as(call.answer, received.content)
        told(body, answer)
        return body

    @staticmethod
    def _nothing(call: Call[T]) -> T:
        return read_as(call.answer, b"")


def answer_of(status: int, headers: Mapping[str, str]) -> Answer:
    """What the headers of an answer say."""
    position = headers.get("nbledger-position", "")
    return Answer(
        status=status,
        request_id=headers.get("x-request-id"),
        etag=headers.get("etag"),
        position=int(position) if position.isdecimal() else None,
        replayed=headers.get("idempotency-replayed") == "true",
        location=headers.get("location"),
    )


@functools.lru_cache(maxsize=512)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def read_as(kind: type[T], content: bytes) -> T:
    """The body of an answer as what it is.

    Raises :class:`AnswerNotUnderstoodError` for another thing.
    """
    found: Any
    if kind is type(None):
        found = None
    elif kind is bytes:
        found = content
    elif kind is str:
        found = content.decode()
    else:
        try:
            found = _decoder(cast("Any", kind)).decode(content)
        except msgspec.DecodeError as error:
            raise AnswerNotUnderstoodError(
                f"The answer is no {getattr(kind, '__name__', kind)}: {error}", reached=True
            ) from error
    result: T = found
    return result
