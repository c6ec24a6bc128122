"""Lines of ``events.jsonl``: an event with all that its entry's digests are made of."""

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_encode: Final = msgspec.json.Encoder().encode


class Erasure(msgspec.Struct, frozen=True):
    """The deletion that took the data of an event: which entry it is, when, and by whom."""

    number: int
    position: int
    at: str
    by: str


class Content(msgspec.Struct, frozen=True):
    """What an entry tells of by digests alone. ``data`` and ``metadata`` are texts as stored."""

    data: str | None
    salt: bytes | None
    metadata: str
    metadata_salt: bytes | None


class NamedArtifacts(msgspec.Struct, frozen=True):
    """Digests of artifacts that an event names: those that the bundle has, and those it has not."""

    included: Sequence[str] = ()
    missing: Sequence[str] = ()


def line(
    entry: bytes,
    content: Content,
    *,
    erased: Erasure | None = None,
    artifacts: NamedArtifacts | None = None,
    context: bool = False,
) -> bytes:
    """One line, with its line feed. ``entry`` keeps its bytes."""
    parts = [
        b'{"entry":',
        entry,
        b',"data":',
        _encode(content.data),
        b',"salt":',
        _base64(content.salt),
        b',"metadata":',
        _encode(content.metadata),
        b',"metadataSalt":',
        _base64(content.metadata_salt),
    ]
    if content.data is None:
        parts += (b',"erased":', _encode(erased))
    if artifacts is not None and artifacts.included:
        parts += (b',"artifacts":', _encode(artifacts.included))
    if artifacts is not None and artifacts.missing:
        parts += (b',"missing":', _encode(artifacts.missing))
    if context:
        parts.append(b',"context":true')
    parts.append(b"}\n")
    return b"".join(parts)


def named_artifacts(data: str | None) -> list[str]:
    """Digests of the artifacts that data names, in order, each once.

    They are where an object has a ``digest`` beside a ``size``; that is how outputs, files and
    versions of datasets name theirs.
    """
    if data is None or '"digest"' not in data:
        return []
    return sorted(set(_digests(msgspec.json.decode(data))))


def _digests(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            digest = each.get("digest")
            sized = isinstance(each.get("size"), int)
            if sized and isinstance(digest, str) and _DIGEST.fullmatch(digest):
                yield digest
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _base64(salt: bytes | None) -> bytes:
    return b"null" if salt is None else b'"%s"' % base64.b64encode(salt)
