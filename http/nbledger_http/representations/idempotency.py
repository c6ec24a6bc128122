"""Requests that may be repeated: the header Idempotency-Key, and what follows from it.

The header is that of draft-ietf-httpapi-idempotency-key-header. What a request with a key has made
is recorded in the same append as the key, so that there is nothing between the two: a repetition
either finds what was made or makes it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from litestar import Request
from msgspec import UNSET

from nbledger_application import idempotency
from nbledger_application.idempotency import Made, RequestKey
from nbledger_domain.errors import (
    DatasetNotFoundError,
    DomainError,
    ExecutionNotFoundError,
    Fault,
    InvalidInputError,
    LibraryNotFoundError,
    NotebookNotFoundError,
    ResultGoneError,
)
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of
from nbledger_infrastructure.artifacts.store import file_digest
from nbledger_infrastructure.postgres.event_store import KeyUsedError

HEADER: Final = "Idempotency-Key"
MAX_KEY: Final = 255

# RFC 9651: a string, and parameters, which no key has a meaning for.
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"[ ]*(?:;[ -~]*)?\Z')
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+\Z")
_GONE = (NotebookNotFoundError, ExecutionNotFoundError, DatasetNotFoundError, LibraryNotFoundError)


class New(msgspec.Struct, frozen=True):
    """What a request has made; ``recorded`` is false where there was nothing to append."""

    stream_id: UUID
    answer: Mapping[str, Any]
    recorded: bool = True


async def file_digests(request: Request[Any, Any, Any], paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of files that the request brought; empty texts where it has no key."""
    if HEADER not in request.headers:
        return [""] * len(paths)
    return [await asyncio.to_thread(file_digest, path) for path in paths]


def parsed_key(values: list[str]) -> str:
    """The key in the header's ``values``, one for each time that it was sent.

    A string of structured fields, or the same without quotes, as many clients send it. Raises
    :class:`InvalidInputError`.
    """
    if len(values) > 1:
        raise _invalid("is there more than once")
    text = values[0].strip(" \t")
    if (quoted := _STRING.match(text)) is not None:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _BARE.match(text) is not None:
        key = text
    else:
        raise _invalid('must be a key in quotes, such as "8e03978e-40d5-43dd-bc93-6894a57f9324"')
    if not 1 <= len(key) <= MAX_KEY:
        raise _invalid(f"must have 1 to {MAX_KEY} characters")
    return key


async def once(
    request: Request[Any, Any, Any],
    operation: str,
    asked: Callable[[], Any],
    make: Callable[[RequestKey | None], Awaitable[New]],
    tell: Callable[[UUID, Mapping[str, Any]], Awaitable[Reply]],
    *,
    look_first: bool = True,
) -> Reply:
    """Make what the request asks for, unless one with the same key has, and tell of it.

    ``asked`` gives what the request asks for, as plain data; ``make`` gets the key to record,
    ``None`` without one; ``tell`` gets the id and the answer of what was made. Where making is
    cheap, first requests are the faster for not looking first: the append refuses repetitions.

    Raises :class:`InvalidInputError` for a bad key, :class:`KeyReusedError`,
    :class:`ResultGoneError`, and what ``make`` and ``tell`` raise.
    """
    key = _key_of(request, operation, asked)
    if key is None:
        new = await make(None)
        return await tell(new.stream_id, new.answer)
    made = await _made_before(request, key) if look_first else None
    if made is None:
        new_or_made = await _made_now(request, key, make)
        if isinstance(new_or_made, New):
            return await tell(new_or_made.stream_id, new_or_made.answer)
        made = new_or_made
    try:
        reply = await tell(made.stream_id, made.answer)
    except _GONE:
        raise ResultGoneError from None
    reply.headers.append((b"idempotency-replayed", b"true"))
    return reply


async def _made_now(
    request: Request[Any, Any, Any],
    key: RequestKey,
    make: Callable[[RequestKey | None], Awaitable[New]],
) -> New | Made:
    """What the request makes, or what another one with its key has made before."""
    try:
        new = await make(key)
    except KeyUsedError:
        # Its row has gone only where it was a day old, and swept in this moment.
        refusal: Exception = Problem(Code.CONFLICT, "Send the request again.")
    except (DomainError, Problem) as error:
        # What is refused now may have been good when it came first.
        refusal = error
    else:
        # What is there already may be what the same request has just made.
        return new if new.recorded else await _made_before(request, key) or new
    made = await _made_before(request, key)
    if made is None:
        raise refusal
    return made


def beyond_defaults(value: Any) -> Any:
    """Plain data of a struct without the members that are as they would be anyway.

    A member that later versions add then changes nothing for those who do not send it.
    """
    if isinstance(value, msgspec.Struct):
        return {
            field.encode_name: beyond_defaults(getattr(value, field.name))
            for field in _fields(type(value))
            if not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, list | tuple):
        return [beyond_defaults(item) for item in value]
    return value


@lru_cache(maxsize=64)
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _is_default(field: msgspec.structs.FieldInfo, value: Any) -> bool:
    if value is UNSET:
        return True
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return field.default is not msgspec.NODEFAULT and bool(value == field.default)


def _key_of(
    request: Request[Any, Any, Any], operation: str, asked: Callable[[], Any]
) -> RequestKey | None:
    values = request.headers.getall(HEADER, [])
    access = access_of(request)
    if not values or access.token_id is None:
        return None
    # What the address names is part of what is asked for.
    return RequestKey(
        access.token_id,
        operation,
        parsed_key(values),
        lambda: [access.project_id, asked()],
    )


async def _made_before(request: Request[Any, Any, Any], key: RequestKey) -> Made | None:
    return await idempotency.find(services_of(request).pool, access_of(request), key)


def _invalid(reason: str) -> InvalidInputError:
    return InvalidInputError([Fault(HEADER, reason)])
