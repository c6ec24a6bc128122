"""Names for files that are handed out."""

import functools
import mimetypes
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import quote

from nbledger_domain.execution import Representation
from nbledger_domain.unseen import all_seen
from nbledger_domain.vocabulary import media_types

MAX_BYTES = 240
"""Of a name in UTF-8; file systems take 255, and some of ours get a few letters more."""

_MAX_ENDING = 16
# What is a path or a pattern on one system or another, and NUL.
_UNSAFE = re.compile(r"[\x00\"*/:<>?\\|]+")
_TRAILING = re.compile(r"[.\s]+\Z")
_UP = re.compile(r"\A(?:\.{0,2}[/\\]+)+")
_DEVICE = re.compile(r"\A(con|prn|aux|nul|com\d|lpt\d)(?=\.|\Z)", re.ASCII | re.IGNORECASE)
_ENDING = re.compile(r"(?<=[^.])(?:\.tar|\.error)?\.[^. ]+\Z")
_EXTENSIONS = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/latex": ".tex",
    "text/csv": ".csv",
    "application/json": ".json",
    media_types.ERROR: ".error.json",
    "image/jpeg": ".jpg",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
}


def safe_file_name(name: str, *, default: str = "file") -> str:
    """``name`` as every file system takes it, and without meaning to a header.

    Characters that cannot be seen where they stand become hyphens, by the rule of uploads:
    directions of writing, for one, make one ending look like another. Letters of any script, blanks
    inside the name, the dot of a hidden file and the ending of a long name stay.
    """
    # What is unsafe goes first: a character may be seen only beside it.
    known = _UNSAFE.sub("\0", _UP.sub("", unicodedata.normalize("NFC", name)))
    safe = _TRAILING.sub("", _UNSAFE.sub("-", all_seen(known, "\0")).lstrip())
    safe = _DEVICE.sub(r"\1-", safe)
    if len(safe.encode()) > MAX_BYTES:
        stem, ending = _parts(safe)
        if len(ending.encode()) > _MAX_ENDING:
            stem, ending = safe, ""
        safe = _cut(stem, MAX_BYTES - len(ending.encode())) + ending
    return safe if safe.strip("-") else default


def _parts(name: str) -> tuple[str, str]:
    """What comes before the ending, and the ending with its dot; a dot in front begins none."""
    found = _ENDING.search(name)
    return (name, "") if found is None else (name[: found.start()], found[0])


def _cut(text: str, size: int) -> str:
    """As many characters from the start as ``size`` bytes hold, the last of them one to see."""
    cut = text.encode()[:size].decode("utf-8", "ignore")
    while cut.endswith(".") or cut[-1:].isspace() or all_seen(cut, "\0").endswith("\0"):
        cut = cut[:-1]
    return cut


def output_file_name(cell_id: str, index: int, suffix: str, form: Representation) -> str:
    """A name for one form of a cell's output; ``index`` counts its outputs from 1."""
    number = "" if index == 1 else f"-{index}"
    # Ids of cells are safe as they are, and many names are made at once.
    return f"{cell_id}{number}-{suffix}{_extension(form.content_type)}"


@functools.lru_cache(maxsize=1000)
def _extension(content_type: str) -> str:
    media_type = content_type.partition(";")[0].strip().lower()
    extension = _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type)
    if extension is None:
        extension = ".json" if media_type.endswith("json") else ".bin"
    return extension


def content_disposition(file_name: str, *, inline: bool = False) -> str:
    """The header that names a file (RFC 6266); ``file_name`` is safe already."""
    kind = "inline" if inline else "attachment"
    # Some browsers decode what looks quoted.
    if file_name.isascii() and "%" not in file_name:
        return f'{kind}; filename="{file_name}"'
    plain = unicodedata.normalize("NFKD", file_name).encode("ascii", "ignore").decode()
    if _parts(file_name)[1] and not _parts(plain)[1]:
        plain = f"file{plain}"
    return f"{kind}; filename=\"{safe_file_name(plain)}\"; filename*=UTF-8''{quote(file_name)}"


def unique_names(names: Sequence[tuple[str, bool]], taken: set[str]) -> list[str]:
    """The names, those with a number before their ending that are ``taken``; they are then.

    None of them has the name of a folder that another one lies in.
    With each goes whether it is what the file is really called: such a name goes before others.
    """
    found = dict.fromkeys(range(len(names)), "")
    for place in sorted(found, key=lambda place: not names[place][1]):
        found[place] = _unique_name(names[place][0], taken)
    return list(found.values())


def _unique_name(name: str, taken: set[str]) -> str:
    """``taken`` has the names of folders with a slash behind them."""
    while (
        file := next((each for each in _folders(name) if each.casefold() in taken), None)
    ) is not None:
        name = f"{file}-{name[len(file) + 1 :]}"
    folder, slash, last = name.rpartition("/")
    stem, ending = _parts(last)
    number = 1
    while not taken.isdisjoint({name.casefold(), f"{name.casefold()}/"}):
        number += 1
        name = f"{folder}{slash}{stem}-{number}{ending}"
    taken.add(name.casefold())
    taken.update(f"{each.casefold()}/" for each in _folders(name))
    return name


def _folders(name: str) -> list[str]:
    """The folders that a file of this name lies in, the outermost first."""
    return [name[: slash.start()] for slash in re.finditer("/", name)]
