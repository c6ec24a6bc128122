"""Names for files that are handed out."""

import functools
import mimetypes
import re
import unicodedata
from urllib.parse import quote

from nbledger_domain.execution import Representation

_UNSAFE = re.compile(r"[^\w.-]+")
_EXTENSIONS = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/latex": ".tex",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/vnd.jupyter.error": ".error.json",
    "image/jpeg": ".jpg",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
}


def safe_file_name(name: str, *, default: str = "file") -> str:
    """``name`` with nothing in it that means something to a path or a header.

    Letters of any script stay, and an ending does, however long the name.
    """
    safe = _UNSAFE.sub("-", unicodedata.normalize("NFC", name)).strip(".-")
    stem, dot, ending = safe.rpartition(".")
    if len(safe) > _MAX and dot and len(ending) <= _MAX_ENDING:
        return f"{stem[: _MAX - len(ending) - 1]}.{ending}"
    return safe[:_MAX] or default


_MAX = 80
"""Characters; as bytes of a file name they may be three times as many."""

_MAX_ENDING = 12


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
    if file_name.isascii():
        return f'{kind}; filename="{file_name}"'
    plain = unicodedata.normalize("NFKD", file_name).encode("ascii", "ignore").decode()
    return f"{kind}; filename=\"{safe_file_name(plain)}\"; filename*=UTF-8''{quote(file_name)}"


def unique_name(name: str, taken: set[str]) -> str:
    """``name``, or with a number before its ending one that is not ``taken``; it is then."""
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    number = 1
    while name.casefold() in taken:
        number += 1
        name = f"{folder}{slash}{stem}-{number}{dot}{ending}"
    taken.add(name.casefold())
    return name
