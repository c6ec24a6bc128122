"""ZIP archives, written while they are sent."""

import asyncio
import contextlib
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import IO, NamedTuple, cast

from nbledger_domain.vocabulary import media_types

_SMALL_BYTES = 16_384
"""Smaller pieces are compressed faster than another thread is asked to."""

_COMPRESSED = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "audio/",
    "video/",
    "application/zip",
    "application/gzip",
    media_types.PARQUET,
)


class Entry(NamedTuple):
    """A file of an archive: its name, its content in pieces, and whether to compress it."""

    name: str
    pieces: AsyncGenerator[bytes]
    compress: bool = True
    executable: bool = False


def worth_compressing(content_type: str) -> bool:
    """Whether content of this media type is not compressed yet."""
    return not content_type.startswith(_COMPRESSED)


class _Outlet:
    """Takes what a ZipFile writes, until somebody collects it; it cannot seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def collect(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


async def zip_stream(entries: AsyncIterator[Entry], *, at: datetime) -> AsyncGenerator[bytes]:
    """A ZIP archive in pieces; of files with one name the first is taken. ``at`` dates them."""
    outlet = _Outlet()
    taken: set[str] = set()
    with zipfile.ZipFile(cast("IO[bytes]", outlet), "w", zipfile.ZIP_DEFLATED) as archive:
        async for name, pieces, compress, executable in entries:
            async with contextlib.aclosing(pieces):
                if name in taken:
                    continue
                taken.add(name)
                info = zipfile.ZipInfo(name, at.astimezone(UTC).timetuple()[:6])
                info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
                info.external_attr = (0o755 if executable else 0o644) << 16
                with archive.open(info, "w", force_zip64=True) as file:
                    async for piece in pieces:
                        if len(piece) < _SMALL_BYTES:
                            file.write(piece)
                        else:
                            await asyncio.to_thread(file.write, piece)
                        if found := outlet.collect():
                            yield found
    yield outlet.collect()
