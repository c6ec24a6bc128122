"""Reading what a notebook left in its folder: never through a link, never out of the folder.

The notebook's processes may still run and change what is there. So everything is opened from the
folder's descriptor downwards, component by component, and copied before it is used.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from nbledger_domain.vocabulary.units import MB

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for the writer of a pipe.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_LEVELS: Final = 16
_PIECE_BYTES: Final = 1 << 20
_CHANGED: Final = "it was changed after the cell that handed it back was over"


class RefusedError(Exception):
    """A file is not taken; the message says why, without its name."""


class Copied(NamedTuple):
    """A private copy of a file: the SHA-256 of its bytes, and how many there are."""

    digest: str
    size: int


class Listing(NamedTuple):
    """The files below a folder, as paths; and of what could not be looked at.

    ``cut`` tells that there are more names than were looked at, ``closed`` are folders that could
    not be opened.
    """

    paths: list[str]
    cut: bool
    closed: list[str]


class Mark(NamedTuple):
    """What changes when another file takes a name's place."""

    inode: int
    changed_ns: int
    """Time of the last change by the system's clock, which a program cannot set."""


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


def names(
    folder: int, pattern: re.Pattern[str], *, limit: int
) -> tuple[list[tuple[str, Mark]], bool]:
    """Names in the folder that match, sorted; and whether there are more than ``limit`` names."""
    found = []
    with os.scandir(folder) as entries:
        for entry in itertools.islice(entries, limit):
            if pattern.fullmatch(entry.name):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((entry.name, Mark(status.st_ino, status.st_ctime_ns)))
        cut = next(entries, None) is not None
    return sorted(found), cut


def is_empty(folder: int) -> bool:
    """Whether nothing is in the folder."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def files(folder: int, *, limit: int) -> Listing:
    """All files below the folder, sorted within each folder; ``limit`` names are looked at.

    Links and what is neither file nor folder are among them: they are refused when copied.
    """
    paths: list[str] = []
    closed: list[str] = []
    pending = [""]
    left = limit
    while pending:
        path = pending.pop()
        try:
            descriptor = _open(folder, path, _FOLDER) if path else os.dup(folder)
        except (OSError, RefusedError):
            closed.append(path)
            continue
        try:
            with os.scandir(descriptor) as entries:
                found = [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in itertools.islice(entries, left)
                ]
                cut = next(entries, None) is not None
        finally:
            os.close(descriptor)
        left -= len(found)
        found.sort()
        prefix = f"{path}/" if path else ""
        paths += [prefix + name for name, is_folder in found if not is_folder]
        if cut:
            return Listing(paths, cut, closed)
        pending += [prefix + name for name, is_folder in reversed(found) if is_folder]
    return Listing(paths, cut=False, closed=closed)


def with_inodes(folder: int, inodes: Collection[int], *, limit: int) -> list[str]:
    """Paths of the files below the folder that have one of these inodes."""
    found = []
    for path in files(folder, limit=limit).paths:
        with suppress(OSError):
            if os.stat(path, dir_fd=folder, follow_symlinks=False).st_ino in inodes:
                found.append(path)
    return found


def read(folder: int, path: str, *, limit: int, mark: Mark) -> bytes:
    """The content of a small file as it was when ``mark`` was taken of it.

    Raises :class:`RefusedError`, also where it is another one or has changed.
    """
    with _file(folder, path, limit) as descriptor:
        content = bytearray()
        while piece := os.read(descriptor, min(_PIECE_BYTES, limit + 1)):
            content += piece
            if len(content) > limit:
                raise RefusedError(_too_large(limit))
        status = os.fstat(descriptor)
        if Mark(status.st_ino, status.st_ctime_ns) != mark:
            raise RefusedError(_CHANGED)
        return bytes(content)


def copy(
    folder: int,
    path: str,
    target: Path,
    *,
    limit: int,
    stop: threading.Event,
    unchanged_since: int | None = None,
) -> Copied:
    """Copy a file of at most ``limit`` bytes.

    Raises :class:`RefusedError`, also when stopped, and where the file was changed after a time,
    in nanoseconds of the system's clock.
    """
    digest = hashlib.sha256()
    size = 0
    with _file(folder, path, limit) as descriptor, target.open("wb") as file:
        while piece := os.read(descriptor, _PIECE_BYTES):
            if stop.is_set():
                raise RefusedError("there is no time left for it")
            size += len(piece)
            if size > limit:
                raise RefusedError(_too_large(limit))
            digest.update(piece)
            file.write(piece)
        if unchanged_since is not None and os.fstat(descriptor).st_ctime_ns > unchanged_since:
            raise RefusedError(_CHANGED)
    return Copied(digest.hexdigest(), size)


@contextmanager
def _file(folder: int, path: str, limit: int) -> Iterator[int]:
    try:
        descriptor = _open(folder, path, _FILE)
    except OSError as error:
        # So the system says that a link was not to be followed.
        if error.errno == errno.ELOOP:
            raise RefusedError("it is a link") from error
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
    return f"it is larger than the {limit / MB:g} MB that are left to it"
