"""Downloads: streamed into a file, which goes on where the connection broke, and is checked."""

from __future__ import annotations

import functools
import hashlib
import io
import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbledger_client.core.repeating import Attempts, Retries
from nbledger_client.core.requests import Call, Repeat
from nbledger_client.core.steps import Close, Sleep, Step, Steps, Stream, done, read, whole
from nbledger_client.errors import DigestMismatchError, TransportError

if TYPE_CHECKING:
    from nbledger_client.core.conversation import Conversation

_SHA256 = re.compile(r'"?([0-9a-f]{64})"?\Z')
_UNPACKED = {"Accept-Encoding": "identity"}
"""A range of what is packed for the way is no range of the file."""


@dataclass(slots=True)
class _Partial:
    """What is there of the file, and the version that it is of."""

    file: io.BufferedRandom
    size: int = 0
    tag: str = ""

    def begin(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.file.write(piece)
        self.size += len(piece)


def content(talk: Conversation, call: Call[bytes]) -> Steps[bytes]:
    """The whole file in memory."""
    stream = yield from talk.open(replace(call, headers={**call.headers, **_UNPACKED}))
    return (yield from whole(stream))


def saved(
    talk: Conversation,
    call: Call[bytes],
    target: Path,
    retries: Retries,
    *,
    digest: str | None = None,
) -> Steps[Path]:
    """The file at ``target``: there at once when it is whole, and before that not at all.

    A connection that breaks is taken up where it broke, as long as the file is the same. Its
    SHA-256 is compared with ``digest``, or with the entity tag where that is one.

    Raises :class:`DigestMismatchError`.
    """
    partial_path = target.with_name(f".{target.name}.part")
    yield from done(lambda: target.parent.mkdir(parents=True, exist_ok=True))
    file: io.BufferedRandom = yield from done(lambda: partial_path.open("w+b"))
    try:
        partial = _Partial(file)
        yield from _filled(talk, call, partial, retries)
        expected = digest or _digest_in(partial.tag)
        if expected is not None:
            yield from done(lambda: _check(file, expected))
        yield from done(file.close)
        yield from done(lambda: partial_path.replace(target))
    finally:
        file.close()
        partial_path.unlink(missing_ok=True)
    return target


def _filled(
    talk: Conversation, call: Call[bytes], partial: _Partial, retries: Retries
) -> Generator[Step, Any, None]:
    attempts, before = Attempts(retries, Repeat.FREELY), 0
    while True:
        if partial.size > before:
            attempts, before = Attempts(retries, Repeat.FREELY), partial.size
        stream = yield from talk.open(_rest_of(call, partial))
        if stream.status != 206:
            yield from done(partial.begin)
        partial.tag = stream.headers.get("etag", "")
        try:
            yield from _taken(stream, partial)
            return
        except TransportError as error:
            seconds = attempts.again(error)
            if seconds is None:
                raise
        yield Close(stream)
        yield Sleep(seconds)


def _taken(stream: Stream, partial: _Partial) -> Generator[Step, Any, None]:
    while (piece := (yield from read(stream))) is not None:
        yield from done(functools.partial(partial.add, piece))
    yield Close(stream)


def _rest_of(call: Call[bytes], partial: _Partial) -> Call[bytes]:
    headers = {**call.headers, **_UNPACKED}
    if partial.size and partial.tag and not partial.tag.startswith("W/"):
        headers |= {"Range": f"bytes={partial.size}-", "If-Range": partial.tag}
    return replace(call, headers=headers)


def _digest_in(tag: str) -> str | None:
    found = _SHA256.match(tag)
    return found[1] if found else None


def _check(file: io.BufferedRandom, expected: str) -> None:
    file.flush()
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DigestMismatchError(f"SHA-256 is {found}, and should be {expected}.")
