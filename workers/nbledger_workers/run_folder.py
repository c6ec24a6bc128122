"""Reading what a notebook left in its folder: never through a link, never out of the folder.

The notebook's processes may still run and change what is there. So everything is opened from the
folder's descriptor downwards, component by component, and copied before it is used.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for the writer of a pipe.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_LEVELS: Final = 16
_PIECE_BYTES: Final = 1 << 20


class RefusedError(Exception):
    """A file is not taken; the message says why, without its name."""


class Copied(NamedTuple):
    """A private copy of a file: the SHA-256 of its bytes, and how many there are."""

    digest: str
    size: int


class Mark(NamedTuple):
    """What changes when another file takes a name's place."""

    inode: int
    written_ns: int


@contextmanager
def opened_folder(run_folder: Path, below: str) -> Iterator[int | None]:
    """A descriptor of a folder of the run's; None where there is none, or a link on the way."""
    try:
        outer = os.open(run_folder, _FOLDER)
        try:
            descriptor = _open(outer, below, _FOLDER)
        finally:
            os.close(outer)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def names(folder: int) -> list[tuple[str, Mark]]:
    """Names in the folder, sorted."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                found.append((entry.name, Mark(status.st_ino, status.st_mtime_ns)))
    return sorted(found)


def files(folder: int, *, limit: int) -> Iterator[str]:
    """Paths of all files below the folder, sorted within each folder; ``limit`` names at most.

    Links and what is neither file nor folder are among them: they are refused when copied.
    """
    pending = [""]
    count = 0
    while pending:
        path = pending.pop()
        try:
            descriptor = _open(folder, path, _FOLDER) if path else os.dup(folder)
        except (OSError, RefusedError):
            continue
        try:
            with os.scandir(descriptor) as entries:
                found = []
                for entry in entries:
                    count += 1
                    if count > limit:
                        return
                    found.append((entry.name, entry.is_dir(follow_symlinks=False)))
        finally:
            os.close(descriptor)
        below = []
        for name, is_folder in sorted(found):
            inner = f"{path}/{name}" if path else name
            if is_folder:
                below.append(inner)
            else:
                yield inner
        pending += reversed(below)


def read(folder: int, path: str, *, limit: int) -> bytes:
    """The content of a small file. Raises :class:`RefusedError`."""
    with _file(folder, path, limit) as descriptor:
        content = bytearray()
        while piece := os.read(descriptor, min(_PIECE_BYTES, limit + 1)):
            content += piece
            if len(content) > limit:
                raise RefusedError(_too_large(limit))
        return bytes(content)


def copy(folder: int, path: str, target: Path, *, limit: int) -> Copied:
    """Copy a file of at most ``limit`` bytes. Raises :class:`RefusedError`."""
    digest = hashlib.sha256()
    size = 0
    with _file(folder, path, limit) as descriptor, target.open("wb") as file:
        while piece := os.read(descriptor, _PIECE_BYTES):
            size += len(piece)
            if size > limit:
                raise RefusedError(_too_large(limit))
            digest.update(piece)
            file.write(piece)
    return Copied(digest.hexdigest(), size)


@contextmanager
def _file(folder: int, path: str, limit: int) -> Iterator[int]:
    try:
        descriptor = _open(folder, path, _FILE)
    except OSError as error:
        raise RefusedError(f"it cannot be opened ({error.strerror})") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError("it is no regular file")
        if found.st_nlink > 1 and found.st_uid != os.fstat(folder).st_uid:
            raise RefusedError("it is another user's")
        if found.st_size > limit:
            raise RefusedError(_too_large(limit))
        yield descriptor
    finally:
        os.close(descriptor)


def _open(folder: int, path: str, flags: int) -> int:
    """Open what lies at the relative path below a folder, passing no link."""
    *parents, name = path.split("/")
    if len(parents) >= _MOST_LEVELS:
        raise RefusedError("it lies too deep")
    if any(part in ("", ".", "..") or "\0" in part for part in (*parents, name)):
        raise RefusedError("its path leads out of the folder")
    at = folder
    try:
        for part in parents:
            below = os.open(part, _FOLDER, dir_fd=at)
            if at != folder:
                os.close(at)
            at = below
        return os.open(name, flags, dir_fd=at)
    finally:
        if at != folder:
            os.close(at)


def _too_large(limit: int) -> str:
    return f"it is larger than the {limit / 1_000_000:g} MB that are left to it"
