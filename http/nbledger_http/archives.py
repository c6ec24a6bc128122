"""ZIP archives, written while they are sent."""

import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import IO, NamedTuple, cast


class Entry(NamedTuple):
    """A file of an archive: its name, and its content in pieces."""

    name: str
    pieces: AsyncIterator[bytes]


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


async def zip_stream(entries: AsyncIterator[Entry], *, at: datetime) -> AsyncIterator[bytes]:
    """A ZIP archive in pieces; of files with one name the first is taken. ``at`` dates them."""
    outlet = _Outlet()
    taken: set[str] = set()
    with zipfile.ZipFile(cast("IO[bytes]", outlet), "w", zipfile.ZIP_DEFLATED) as archive:
        async for name, pieces in entries:
            if name in taken:
                continue
            taken.add(name)
            info = zipfile.ZipInfo(name, at.astimezone(UTC).timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                async for piece in pieces:
                    file.write(piece)
                    if found := outlet.collect():
                        yield found
    yield outlet.collect()
