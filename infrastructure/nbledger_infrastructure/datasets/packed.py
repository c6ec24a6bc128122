"""Unpacks gzip, piece by piece and up to a bound: a few bytes can be many."""

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nbledger_domain.errors import InvalidCsvError

MAX_UNPACKED_BYTES: Final = 1024 * 1024 * 1024
"""How many bytes a packed file may unpack to unless told otherwise."""

_MAGIC: Final = b"\x1f\x8b"
_PIECE_BYTES: Final = 256 * 1024
_OUT_BYTES: Final = 4 * 1024 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == _MAGIC


def unpack(source: Path, target: Path, *, most_bytes: int, stop: threading.Event) -> None:
    """Write to ``target`` what all members of the gzip file hold.

    Ends early, with half a file, once ``stop`` is set. Raises :class:`InvalidCsvError` where the
    file is cut off, damaged, or holds more than ``most_bytes``.
    """
    size = 0
    with target.open("xb") as file:
        for content in _unpacked(source):
            if stop.is_set():
                return
            size += len(content)
            if size > most_bytes:
                raise InvalidCsvError(
                    f"the gzip file unpacks to more than {most_bytes // (1024 * 1024):,} MB"
                )
            file.write(content)
    if is_gzip(target):
        raise InvalidCsvError("the gzip file holds another one: unpack it once")


def _unpacked(source: Path) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP)
    with source.open("rb") as file:
        waiting = b""
        while waiting or (waiting := file.read(_PIECE_BYTES)):
            if member.eof:
                # Padding with zeros may follow the last member; so do further members.
                waiting = waiting.lstrip(b"\0")
                if not waiting:
                    continue
                if len(waiting) < len(_MAGIC):
                    waiting += file.read(_PIECE_BYTES)
                if not waiting.startswith(_MAGIC):
                    raise InvalidCsvError("the gzip file goes on with something else")
                member = zlib.decompressobj(_GZIP)
            try:
                content = member.decompress(waiting, _OUT_BYTES)
            except zlib.error as error:
                raise InvalidCsvError(f"the gzip file is damaged: {_reason(error)}") from None
            if content:
                yield content
            waiting = member.unused_data if member.eof else member.unconsumed_tail
        while not member.eof and (content := _rest(member)):
            yield content
    if not member.eof:
        raise InvalidCsvError("the gzip file is cut off: it ends before its data does")


def _rest(member: "zlib._Decompress") -> bytes:
    """What is left to come out once everything is in."""
    try:
        return member.decompress(b"", _OUT_BYTES)
    except zlib.error:
        return b""


def _reason(error: zlib.error) -> str:
    return str(error).rpartition(": ")[2]
