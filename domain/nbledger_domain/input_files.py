"""Input files: what lies beside a notebook, and which paths such a file may have."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.unseen import all_seen, named, odd_blank, unseen_places

MAX_SEGMENT_BYTES: Final = 255
"""Of a file's or folder's name in UTF-8: no common file system takes more."""

MAX_PATH_BYTES: Final = 1000
MAX_DEPTH: Final = 16
"""Segments of a path, the file's name included."""

RESERVED: Final = frozenset({".nbledger", ".home", ".tmp", ".venv", "outputs"})
"""Folders that the service itself makes and reads in the folder of a run."""

NOTEBOOK_SUFFIX: Final = ".ipynb"

_SHOWN: Final = 200
_DRIVE: Final = re.compile(r"[A-Za-z]:")


class InputFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A file beside the notebook.

    ``path`` is relative to the notebook's folder, its segments separated by ``/``. ``digest`` is
    the SHA-256 of the bytes, under which the artifact store keeps them; ``size`` is in bytes.
    ``executable`` is there where the file may be run as a program.
    """

    path: str
    content_type: str
    digest: str
    size: int
    modified_at: datetime | None = None
    executable: bool | UnsetType = UNSET

    def same_content(self, other: "InputFile") -> bool:
        """Whether both hold the same bytes."""
        return self.digest == other.digest and self.size == other.size


class FileLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many input files one notebook may have, and how many bytes all of them together."""

    count: int
    total_bytes: int


class InvalidPathError(ValueError):
    """The text is no path of an input file; the message says why, and names it."""


def checked_path(text: str) -> str:
    """``text`` as the path of an input file, in Unicode's composed form (NFC).

    Raises :class:`InvalidPathError`.
    """
    path = relative_path(text)
    reason = _place_fault(path.split("/"))
    if reason is not None:
        raise InvalidPathError(f"{shown(text)} {reason}")
    return path


def relative_path(text: str, *, wrapping: str = "") -> str:
    """``text`` as a path that leads down from a folder to a file, in composed form (NFC).

    Where it begins with the path ``wrapping``, in that form, characters in that may be invisible:
    a folder whose name is cut off. Raises :class:`InvalidPathError`.
    """
    path = unicodedata.normalize("NFC", text)
    reason = _fault(path, len(wrapping) if path.startswith(wrapping) else 0)
    if reason is not None:
        raise InvalidPathError(f"{shown(text)} {reason}")
    return path


def collision(paths: Iterable[str]) -> str | None:
    """Why these paths cannot lie beside each other on every system; ``None`` where they can.

    Two files collide whose paths are the same but for upper and lower case, and a file collides
    with a folder of its name.
    """
    files: dict[str, str] = {}
    for path in paths:
        other = files.get(folded(path))
        if other == path:
            return f"{shown(path)} is there twice"
        if other is not None:
            return f"{shown(path)} differs from {shown(other)} in upper and lower case only"
        files[folded(path)] = path
    for path in files.values():
        for folder in _folders(path):
            other = files.get(folded(folder))
            if other is not None:
                return f"{shown(other)} is a file, and {shown(path)} needs a folder of that name"
    return None


def folded(path: str) -> str:
    """The same text for all paths that differ in upper and lower case only."""
    return unicodedata.normalize("NFC", path.casefold())


def total_size(files: Mapping[str, InputFile]) -> int:
    """The bytes of all the files."""
    return sum(file.size for file in files.values())


def shown(text: str) -> str:
    """``text`` for a message: quoted, without characters that cannot be seen, and not too long."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return repr(all_seen(cut, "�"))


def _fault(path: str, seen_from: int) -> str | None:
    """What is wrong with a path, in words that follow it."""
    if not path.strip():
        return "names no file"
    seen = path[seen_from:]
    place = next(unseen_places(seen), None)
    if place is not None:
        return f"has {named(seen[place])}, which cannot be seen"
    blank = next(filter(None, map(odd_blank, seen.split("/"))), None)
    if blank is not None:
        return f"has a name that begins or ends with {named(blank)}, which cannot be seen there"
    if "\\" in path:
        return "has a backslash; folders are separated by /"
    if path.startswith("/") or _DRIVE.match(path):
        return "is absolute; it must be relative to the notebook's folder"
    if path.endswith("/"):
        return "names a folder, not a file"
    return _segments_fault(path.split("/"))


def _segments_fault(segments: list[str]) -> str | None:
    if ".." in segments:
        return "leads out of the notebook's folder; '..' is not allowed"
    if "." in segments or not all(segment.strip() for segment in segments):
        return "has an empty segment or '.' in it"
    if any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        return f"has a name of more than {MAX_SEGMENT_BYTES} bytes"
    if len("/".join(segments).encode()) > MAX_PATH_BYTES:
        return f"has more than {MAX_PATH_BYTES} bytes"
    if len(segments) > MAX_DEPTH:
        return f"lies more than {MAX_DEPTH} levels deep"
    return None


def _place_fault(segments: list[str]) -> str | None:
    top = folded(segments[0])
    if top == "outputs":
        return "lies in outputs/, which is for what runs leave behind"
    if top in RESERVED:
        return f"lies in {top}/, which the service keeps for itself"
    if folded(segments[-1]).endswith(NOTEBOOK_SUFFIX):
        return "is a notebook; a notebook is uploaded as one of its own"
    if any(folded(segment).endswith(NOTEBOOK_SUFFIX) for segment in segments):
        return "lies in a folder that has the name of a notebook"
    return None


def _folders(path: str) -> Iterable[str]:
    place = path.find("/")
    while place >= 0:
        yield path[:place]
        place = path.find("/", place + 1)
