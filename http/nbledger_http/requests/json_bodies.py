"""Bodies in JSON: received, decoded, and free of what can be stored nowhere."""

import codecs
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.requests.json_faults import faults_of_json, repeated_members

MAX_DEPTH = 100
"""Deeper JSON is refused: too much that reads it later works recursively."""

MAX_TOLD = 100
"""Of what can be wrong any number of times, so many are told."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


async def json_object(request: Request[Any, Any, Any], *, optional: bool = False) -> dict[str, Any]:
    """The JSON object that ``request`` carries; ``{}`` for no body where that is allowed.

    Raises :class:`InvalidInputError`, and :class:`Problem` (413, 415).
    """
    body = await raw_body(request)
    if optional and not body.strip():
        return {}
    kind, _, parameters = request.headers.get("content-type", "application/json").partition(";")
    kind = kind.strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send application/json.")
    _, _, charset = parameters.lower().partition("charset=")
    if charset and charset.strip(" \"'") not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "JSON is written in UTF-8.")
    return decode_object(body)


async def no_members(request: Request[Any, Any, Any]) -> None:
    """Take no body, or an empty object: nothing is done for a request that says what is not heard.

    Raises :class:`InvalidInputError`, and :class:`Problem` (413, 415).
    """
    body = await json_object(request, optional=True)
    if body:
        reason = "is an unknown member; the request takes none"
        names = itertools.islice(body, MAX_TOLD)
        raise InvalidInputError([Fault(f"/{escaped(name)}", reason) for name in names])


async def raw_body(request: Request[Any, Any, Any]) -> bytes:
    """The whole body. Raises :class:`Problem` (413, 415)."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "Send the body without a content encoding.")
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code != 413:
            raise
        limit = request.app.state.services.settings.http.max_body_mb
        raise Problem(
            Code.BODY_TOO_LARGE, f"A request body may have at most {limit} MB."
        ) from error


def decode(body: bytes) -> Any:
    """The JSON value in ``body``. Raises :class:`InvalidInputError`."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidInputError([Fault("", "is nested too deeply")]) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInputError(_unreadable(body, error)) from None
    return value


def _unreadable(body: bytes, error: Exception) -> list[Fault]:
    """What is wrong with a body that was not decoded, where that is not what ``error`` says."""
    if not body.strip():
        return [Fault("", "is empty")]
    if _SURROGATE.search(body) is not None:
        # msgspec takes half of a surrogate pair for the end of its input, and the json of the
        # standard library reads it.
        try:
            value = json.loads(body.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError):
            pass
        else:
            if faults := list(itertools.islice(unstorable(value), MAX_TOLD)):
                return faults
    try:
        text = body.decode()
    except UnicodeDecodeError as undecodable:
        return [Fault("", f"is not UTF-8: byte {undecodable.start} cannot be read")]
    return faults_of_json(text, error)


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, free of what can be stored nowhere.

    No object in it has two members of one name, of which one would be passed over. Raises
    :class:`InvalidInputError`.
    """
    value = decode(body)
    if not isinstance(value, dict):
        raise InvalidInputError([Fault("", "must be a JSON object")])
    faults = list(itertools.islice(unstorable(value), MAX_TOLD))
    if not faults:
        faults = repeated_members(body.removeprefix(codecs.BOM_UTF8))
    if faults:
        raise InvalidInputError(faults)
    return value


def unstorable(value: Any, pointer: str = "", depth: int = 0) -> Iterator[Fault]:
    """A fault for every text with a NUL or half a character, and for nesting too deep."""
    if isinstance(value, str):
        if reason := _bad_text(value):
            yield Fault(pointer, reason)
    elif isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            yield Fault(pointer, f"is nested more than {MAX_DEPTH} deep")
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(key, str) and (reason := _bad_text(key)):
                yield Fault(pointer, f"has a member whose name {reason}")
                continue
            yield from unstorable(item, f"{pointer}/{escaped(key)}", depth + 1)


def _bad_text(text: str) -> str | None:
    if "\x00" in text:
        return "contains the character U+0000, which cannot be stored"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains half of a surrogate pair, which is no character"
    return None


def escaped(key: object) -> str:
    """``key`` as a reference token of a JSON pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")
